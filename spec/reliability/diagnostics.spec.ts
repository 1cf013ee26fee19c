import { expect } from "chai"
import { SessionRecord } from "../../src/session/session-record"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { shared } from "./support/databases"
import { recordEvents } from "./support/events"

describeOnEach("diagnostics channels", shared, (database) => {
  let server: SessionApp
  let recorded: ReturnType<typeof recordEvents> | undefined

  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 10_000 } })
  })
  afterEach(async () => {
    recorded?.stop()
    recorded = undefined
    await server.stop()
  })

  it("tell what becomes of a session, with ids and durations", async () => {
    recorded = recordEvents()
    server.work = async (db) => {
      await db.insert(Note, { text: "secret value" })
      await db.commit()
      await db.count(Note)
      await db.rollback()
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(recorded.names()).to.deep.equal([
      "session.opened",
      "transaction.begun",
      "transaction.committed",
      "transaction.begun",
      "transaction.rolledBack",
      "session.closed",
    ])
    const payloads = recorded.events.map(({ payload }) => payload)
    expect(new Set(payloads.map(({ sessionId }) => sessionId)).size).to.equal(1)
    expect(new Set(payloads.map(({ label }) => label))).to.deep.equal(new Set(["POST /json"]))
    const transactions = payloads.map(({ transactionId }) => transactionId)
    expect(transactions[1]).to.be.a("number").and.equal(transactions[2])
    expect(transactions[3]).to.be.a("number").and.equal(transactions[4])
    expect(transactions[1]).to.not.equal(transactions[3])
    expect(payloads[2]).to.include({ wrote: true })
    expect(payloads[4]).to.include({ wrote: false })
    for (const index of [2, 4, 5]) expect(payloads[index]?.durationMs).to.be.within(0.001, 5_000)
    for (const index of [1, 2, 3, 4]) expect(payloads[index]?.waitMs).to.be.within(0, 5_000)
    expect(payloads.every((payload) => Object.isFrozen(payload))).to.equal(true)
    expect(JSON.stringify(payloads)).to.not.match(/secret|insert|select|note/i)
  })

  it("tell of a commit that was refused, with the error's name and no text of the database", async () => {
    recorded = recordEvents()
    server.work = async (db) => {
      await db.insert(Note, { text: "secret value" })
      await db.query("SELECT * FROM no_such_table").catch(() => undefined)
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(500)
    await server.settled()
    expect(recorded.names()).to.deep.equal([
      "session.opened",
      "transaction.begun",
      "transaction.failed",
      "session.closed",
    ])
    expect(recorded.events[2]?.payload).to.include({ errorName: "TransactionAbortedError", wrote: true })
    expect(JSON.stringify(recorded.events)).to.not.match(/secret|insert|select|no_such_table/i)
  })

  it("count as written what may write by its text, and no read, raw ones included", async () => {
    recorded = recordEvents(["transaction.committed"])
    const works: Work[] = [
      (db) => db.count(Note),
      (db) => db.query("SELECT text FROM note"),
      (db) => db.query("SELECT text FROM note FOR UPDATE"),
    ]
    for (const work of database.kind === "sqlite" ? works.slice(0, 2) : works) {
      server.work = async (db, ctx) => ({ result: await work(db, ctx) })
      expect((await server.http.get("/json")).status).to.equal(200)
      await server.settled()
    }
    const wrote = recorded.events.map(({ payload }) => payload.wrote)
    expect(wrote).to.deep.equal(database.kind === "sqlite" ? [false, false] : [false, false, true])
  })

  it("tell of reads whose begin was put off as of a transaction", async () => {
    recorded = recordEvents()
    server.work = async (db) => ({ count: await db.count(Note) })
    expect((await server.http.get("/json")).status).to.equal(200)
    await server.settled()
    expect(recorded.names()).to.deep.equal([
      "session.opened",
      "transaction.begun",
      "transaction.committed",
      "session.closed",
    ])
    expect(recorded.events[2]?.payload).to.include({ wrote: false })
  })

  it("say nothing of a transaction where no statement ran", async () => {
    recorded = recordEvents()
    server.work = () => ({ ok: true })
    expect((await server.http.get("/json")).status).to.equal(200)
    await server.settled()
    expect(recorded.names()).to.deep.equal(["session.opened", "session.closed"])
  })

  it("give each of 50 sessions at once its own ids", async () => {
    recorded = recordEvents()
    server.work = (db, ctx) => db.insert(Note, { text: String(ctx.query.n) })
    await Promise.all(Array.from({ length: 50 }, (_, n) => server.http.post(`/json?n=${n}`)))
    await server.settled()
    for (const name of ["session.opened", "transaction.begun", "transaction.committed", "session.closed"]) {
      const own = recorded.events.filter((event) => event.name === name).map(({ payload }) => payload)
      expect(own, name).to.have.length(50)
      expect(new Set(own.map(({ sessionId }) => sessionId)).size).to.equal(50)
    }
  })
})

describe("SessionRecord", () => {
  it("computes nothing where nobody has subscribed, and counts all the same", () => {
    const tally = { committed: 0, rolledBack: 0, failed: 0, refused: 0 }
    const refuse = () => expect.fail("something was computed")
    const record = new SessionRecord({ label: refuse }, tally)
    const transaction = {
      id: 1,
      wrote: true,
      get startedAt() {
        return refuse()
      },
      get connectedAt() {
        return refuse()
      },
    }
    record.begun(transaction)
    record.committed(transaction)
    record.rolledBack(transaction)
    record.failed(transaction, new Error("failed"))
    record.closed()
    expect(tally).to.deep.equal({ committed: 1, rolledBack: 1, failed: 1, refused: 0 })
  })

  it("computes for the one channel that somebody has subscribed to", () => {
    let labelled = 0
    const label = () => `label ${++labelled}`
    const recorded = recordEvents(["transaction.committed"])
    const record = new SessionRecord({ label }, { committed: 0, rolledBack: 0, failed: 0, refused: 0 })
    const transaction = { id: 1, wrote: true, startedAt: 1, connectedAt: 3 }
    record.begun(transaction)
    record.committed(transaction)
    record.closed()
    recorded.stop()
    record.committed(transaction)
    expect(labelled).to.equal(1)
    expect(recorded.events.map(({ payload }) => payload.waitMs)).to.deep.equal([2])
  })
})
