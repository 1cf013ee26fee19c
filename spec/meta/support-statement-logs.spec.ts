import { expect } from "chai"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { createSqliteLog } from "../support/sqlite-log"
import { splitStatements, verbOf } from "../support/statement-log"
import { startWireLog, type WireLog } from "../support/wire-log"

interface Client {
  connect(): Promise<unknown>
  query(sql: string, params?: unknown[]): Promise<{ rows: unknown[] }>
  end(): Promise<void>
  on(event: "error" | "end", listener: () => void): unknown
}

const { Client } = require("pg") as { Client: new (options: object) => Client }

describeOnEach(
  "startWireLog()",
  testDatabases.filter(({ kind }) => kind === "postgres"),
  (database) => {
    let created: CreatedDatabase
    let log: WireLog
    let client: Client

    beforeEach(async () => {
      created = await database.createDatabase()
      log = await startWireLog(created.uri)
      client = await connect()
    })

    afterEach(async () => {
      await client.end()
      await log.stop()
      await created.drop()
    })

    async function connect(options: object = {}): Promise<Client> {
      const opened = new Client({ connectionString: log.uri, ...options })
      opened.on("error", () => {})
      await opened.connect()
      return opened
    }

    it("records plain and parameterised statements in the order sent", async () => {
      await client.query("START TRANSACTION ISOLATION LEVEL SERIALIZABLE")
      await client.query("SELECT $1::int", [1])
      await client.query("SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE SAVEPOINT a")
      await client.query("ROLLBACK")
      const expected = ["BEGIN", "SELECT", "SAVEPOINT", "ROLLBACK TO", "RELEASE", "ROLLBACK"]
      expect(log.verbs()).to.deep.equal(expected)
      expect(log.statements()[1]).to.equal("SELECT $1::int")
    })

    it("numbers the connections that statements were sent on", async () => {
      const other = await connect()
      await other.query("SELECT 2")
      await client.query("SELECT 1")
      await other.end()
      expect(log.entries()).to.deep.equal([
        { connection: 2, sql: "SELECT 2" },
        { connection: 1, sql: "SELECT 1" },
      ])
    })

    it("counts one flight for each statement that waited for the one before", async () => {
      await client.query("BEGIN")
      await client.query("SELECT $1::int", [1])
      await client.query("COMMIT")
      expect(log.flights()).to.equal(3)
    })

    it("counts one flight for statements that did not wait for each other", async () => {
      const pipelined = await connect({ pipeline: true })
      log.setDelay(5)
      await Promise.all([pipelined.query("BEGIN"), pipelined.query("SELECT $1::int", [1])])
      expect(log.flights()).to.equal(1)
      await pipelined.query("COMMIT")
      expect(log.flights()).to.equal(2)
      log.setDelay(0)
      await pipelined.end()
    })

    it("forgets statements and flights at clear()", async () => {
      await client.query("SELECT 1")
      log.clear()
      expect([log.statements(), log.flights()]).to.deep.equal([[], 0])
    })

    it("delays each way by the time given", async () => {
      log.setDelay(20)
      const before = performance.now()
      await client.query("SELECT 1")
      expect(performance.now() - before).to.be.at.least(40)
      log.setDelay(0)
    })

    it("passes large results and large statements through unchanged", async () => {
      const text = "x".repeat(3_000_000)
      const { rows } = await client.query("SELECT $1::text AS text", [text])
      expect(rows).to.deep.equal([{ text }])
    })

    it("destroys connections at cut() and accepts new ones", async () => {
      expect(log.connections()).to.equal(1)
      const waiting = client.query("SELECT pg_sleep(60)")
      log.cut()
      // A reset or an end, by whether the query was still unread: as with a real network.
      await expect(waiting).to.be.rejectedWith(/Connection terminated unexpectedly|ECONNRESET/)
      const other = await connect()
      expect(log.connections()).to.equal(1)
      await other.end()
    })

    it("cuts before a statement reaches the server", async () => {
      await client.query("CREATE TABLE note (id integer)")
      await client.query("BEGIN; INSERT INTO note VALUES (1)")
      log.cutOn(/^COMMIT/, "before")
      await expect(client.query("COMMIT")).to.be.rejectedWith("Connection terminated unexpectedly")
      const direct = await created.open()
      expect(await direct.query("SELECT * FROM note")).to.deep.equal([])
    })

    it("cuts after a statement was carried out", async () => {
      await client.query("CREATE TABLE note (id integer)")
      await client.query("BEGIN; INSERT INTO note VALUES (1)")
      log.cutOn(/^COMMIT/, "after")
      await expect(client.query("COMMIT")).to.be.rejectedWith("Connection terminated unexpectedly")
      const direct = await created.open()
      expect(await direct.query("SELECT * FROM note")).to.deep.equal([{ id: 1 }])
    })

    it("lets the client see that the server ended its connection", async () => {
      const ended = new Deferred()
      client.on("end", () => ended.resolve())
      const direct = await created.open()
      await direct.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
      await ended.promise
      expect(log.connections()).to.equal(0)
    })
  },
)

describe("StatementLog", () => {
  it("names what each statement does", () => {
    const verbs: Record<string, string> = {
      "start transaction read only": "BEGIN",
      "BEGIN IMMEDIATE TRANSACTION": "BEGIN",
      "ROLLBACK TRANSACTION TO SAVEPOINT a": "ROLLBACK TO",
      "ROLLBACK TO a": "ROLLBACK TO",
      ROLLBACK: "ROLLBACK",
      "RELEASE SAVEPOINT a": "RELEASE",
      "SET TRANSACTION READ ONLY": "SET",
      "/* who */ -- why\n select 1": "SELECT",
      'INSERT INTO "note" VALUES (1)': "INSERT",
    }
    for (const [statement, verb] of Object.entries(verbs)) expect(verbOf(statement)).to.equal(verb)
  })

  it("splits the statements of one message", () => {
    expect(splitStatements("BEGIN; SELECT 1;\n")).to.deep.equal(["BEGIN", "SELECT 1"])
  })

  it("collects what better-sqlite3 traces, values included", () => {
    const log = createSqliteLog()
    const BetterSqlite3 = require("better-sqlite3") as new (
      path: string,
      options: { verbose: typeof log.verbose },
    ) => { exec(sql: string): void; prepare(sql: string): { all(...params: unknown[]): unknown }; close(): void }
    const database = new BetterSqlite3(":memory:", { verbose: log.verbose })
    database.exec("BEGIN; CREATE TABLE note (id integer); COMMIT")
    database.prepare("SELECT * FROM note WHERE id = ?").all(7)
    database.close()
    expect(log.verbs()).to.deep.equal(["BEGIN", "CREATE", "COMMIT", "SELECT"])
    expect(log.statements()[3]).to.equal("SELECT * FROM note WHERE id = 7.0")
    log.clear()
    expect(log.statements()).to.deep.equal([])
  })
})
