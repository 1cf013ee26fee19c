import { execFile } from "node:child_process"
import { join } from "node:path"
import { expect } from "chai"
import { auditBooks, auditUnknowns } from "../soak/audit"
import type { BankState, TransferOrder } from "../soak/bank"
import { CommitWatch } from "../soak/commit-watch"
import type { SoakDatabase } from "../soak/database"
import { createSoakDatabase } from "../soak/databases"
import { digestOf, type PlannedRequest, planRequest } from "../soak/plan"
import { RunRecord } from "../soak/record"
import { mysql } from "./support/mysql-database"

const SECONDS = 10
/** Its ten seconds have silence, and COMMITs whose answers are cut. */
const SEED = 5

interface Ended {
  readonly code: unknown
  readonly output: string
}

function runSoak(database: string): Promise<Ended> {
  const parameters = ["--database", database, "--seconds", String(SECONDS), "--seed", String(SEED)]
  return new Promise((resolve) => {
    execFile(process.execPath, [join(__dirname, "..", "soak", "run.js"), ...parameters], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, output: stdout + stderr })
    })
  })
}

describe("npm run soak", function () {
  this.timeout(120_000)

  for (const database of ["sqlite", "postgres", "mysql"]) {
    describe(`on ${database}, for ${SECONDS} s`, () => {
      if (database === "mysql" && !mysql.available) {
        it(`is skipped: ${mysql.skipReason}`)
        return
      }
      it("loses nothing, doubles nothing and leaks nothing under faults", async () => {
        const { code, output } = await runSoak(database)
        expect(output).to.match(/lost 0, doubled 0, leaked 0, wrong answers 0\.\n$/)
        expect(output).to.match(/\| transfers acknowledged \(2xx\) \| [1-9]/)
        expect(output).to.match(/\| - exhaust the pool \| [1-9]/)
        if (database === "postgres") expect(output).to.match(/\| - (restart|crash) the server \| [1-9]/)
        if (database !== "sqlite") {
          expect(output).to.match(/\| - kill a(ll)? backends? \| [1-9]/)
          expect(output).to.match(/\| - silence \| [1-9]/)
          expect(output).to.match(/\| - (cut|lose) answers to COMMIT \| [1-9]/)
        }
        expect(code).to.equal(0)
      })
    })
  }
})

describe("the plan of a soak run", () => {
  it("is the same for the same seed, and another one for another", () => {
    expect(digestOf("postgres", 7, 10, 2)).to.equal(digestOf("postgres", 7, 10, 2))
    expect(digestOf("postgres", 7, 10, 2)).to.not.equal(digestOf("postgres", 8, 10, 2))
  })
})

describe("the audit of a soak run", () => {
  const order: TransferOrder = { ...planRequest("sqlite", 1, 0, 0).order, id: "0-0", from: 1, to: 2, amount: 5 }
  const planned: PlannedRequest = { ...planRequest("sqlite", 1, 0, 0), kind: "none", order }
  const answer = (status: number) => ({ status, text: "{}", hasRetryAfter: true })
  let database: SoakDatabase

  beforeEach(async () => {
    database = (await createSoakDatabase("sqlite")) as SoakDatabase
  })

  afterEach(() => database.drop())

  async function write(...statements: string[]): Promise<void> {
    const connection = await database.open()
    for (const statement of statements) await connection.query(statement)
  }

  const move = [
    "UPDATE account SET balance = balance - 5 WHERE id = 1",
    "UPDATE account SET balance = balance + 5 WHERE id = 2",
  ]
  const enter = "INSERT INTO ledger (transfer_id, from_id, to_id, amount) VALUES ('0-0', 1, 2, 5)"

  it("finds nothing where an acknowledged transfer is there once", async () => {
    const record = new RunRecord()
    record.note(planned, order, answer(200))
    await write(...move, enter)
    const { acknowledged, lost, doubled, kept } = await auditBooks(database, record)
    expect({ acknowledged, lost, doubled, kept }).to.deep.equal({ acknowledged: 1, lost: [], doubled: [], kept: [] })
  })

  it("counts as lost what was acknowledged and is not in the ledger", async () => {
    const record = new RunRecord()
    record.note(planned, order, answer(200))
    expect((await auditBooks(database, record)).lost).to.have.length(1)
  })

  it("counts as doubled what was acknowledged twice", async () => {
    const record = new RunRecord()
    record.note(planned, order, answer(503))
    record.note(planned, order, answer(200), true)
    record.note(planned, order, answer(200), true)
    await write(...move, enter)
    expect((await auditBooks(database, record)).doubled).to.have.length(1)
  })

  it("counts as doubled what moved money twice and is in the ledger once", async () => {
    const record = new RunRecord()
    record.note(planned, order, answer(200))
    await write(...move, ...move, enter)
    expect((await auditBooks(database, record)).doubled).to.have.length(2)
  })

  it("finds a transfer that was refused and is in the ledger", async () => {
    const record = new RunRecord()
    record.note(planned, order, answer(409))
    await write(...move, enter)
    expect((await auditBooks(database, record)).kept).to.have.length(1)
  })

  it("finds a transfer that was answered 503, which says that nothing was done, and is in the ledger", async () => {
    const record = new RunRecord()
    record.note(planned, order, answer(503))
    await write(...move, enter)
    expect((await auditBooks(database, record)).kept).to.have.length(1)
  })

  it("finds a row that nobody asked for", async () => {
    await write(...move, enter)
    expect((await auditBooks(database, new RunRecord())).kept).to.deep.equal(["0-0 was never sent"])
  })

  it("lets the outcome of an unanswered transfer be either", async () => {
    const record = new RunRecord()
    record.note(planned, order, { aborted: true })
    const before = await auditBooks(database, record)
    await write(...move, enter)
    const after = await auditBooks(database, record)
    for (const books of [before, after]) {
      expect([...books.lost, ...books.doubled, ...books.kept]).to.deep.equal([])
      expect(books.unknown).to.equal(1)
    }
    expect([before.unknownKept, after.unknownKept]).to.deep.equal([0, 1])
  })

  const told = (...unknowns: string[]) => ({ unknowns, hooks: 0, completed: {} }) as unknown as BankState

  it("excuses a 500 by a COMMIT that had no answer, and by nothing else", () => {
    const record = new RunRecord()
    record.note(planned, order, answer(500))
    expect(auditUnknowns(told("0-0"), record, new Map([["0-0", 1]]))).to.deep.equal([])
    expect(auditUnknowns(told("0-0"), record, new Map())).to.have.length(1)
    expect(auditUnknowns(told(), record, new Map([["0-0", 1]]))).to.have.length(1)
    expect(auditUnknowns(told("0-0", "0-0"), record, new Map([["0-0", 1]]))).to.have.length(1)
  })

  it("knows from the wire which COMMITs had no answer", () => {
    const watch = new CommitWatch("postgres")
    const one = watch.observe()
    const other = watch.observe()
    for (const [wire, id] of [
      [one, "1-2"],
      [other, "3-4"],
    ] as const) {
      wire.fromClient(Buffer.from(`INSERT '${id}'`), [`INSERT '${id}'`])
      wire.toClient(Buffer.from("C\0\0\0\x0fINSERT 0 1\0"))
      wire.fromClient(Buffer.from("COMMIT"), ["COMMIT"])
    }
    one.toClient(Buffer.from("C\0\0\0\x0bCOMMIT\0"))
    expect([...watch.unanswered()]).to.deep.equal([["3-4", 1]])
    other.toClient(Buffer.from("E\0\0\0 SFATAL\0VFATAL\0C57P01\0"))
    expect([...watch.unanswered()]).to.deep.equal([["3-4", 1]])
  })
})
