import { once } from "node:events"
import { expect } from "chai"
import { HttpError } from "routing-controllers"
import type { SessionsOptions } from "../../src/koa/sessions-options"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Note } from "../support/http-entities"
import { type SessionApp, type SessionAppOptions, startSessionApp, type Work } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

const postgres = httpDatabases.filter(({ kind }) => kind === "postgres")
const read: Work = async (db) => ({ count: await db.count(Note) })
const readThenInsert: Work = async (db) => {
  const count = await db.count(Note)
  await db.insert(Note, { text: "a" })
  return { count }
}

describeOnEach("a request that reads before anything else", postgres, (database) => {
  let server: SessionApp
  afterEach(() => server.stop())

  /** Nothing that a client in this process can do is as fast as this delay is slow: the round trips are all seen. */
  async function start(work: Work, options: SessionAppOptions = {}): Promise<void> {
    server = await startSessionApp(database, { work, ...options })
    await server.http.get("/json")
    await server.settled()
    server.log.clear()
    server.wire?.setDelay(10)
  }

  it("is one statement in one round trip, without BEGIN and COMMIT", async () => {
    await start(read)
    const { committed } = server.maker.stats()
    const reply = await server.http.get("/json")
    await server.settled()
    expect(reply.json()).to.deep.equal({ count: 0 })
    expect(server.log.verbs()).to.deep.equal(["SELECT"])
    expect(server.wire?.flights()).to.equal(1)
    expect(server.maker.stats()).to.include({ committed: committed + 1, rolledBack: 0, active: 0 })
  })

  it("begins with its first write, in the same round trip", async () => {
    await start(read)
    server.work = readThenInsert
    const reply = await server.http.get("/json")
    await server.settled()
    expect(reply.json()).to.deep.equal({ count: 0 })
    expect(server.log.verbs()).to.deep.equal(["SELECT", "BEGIN", "INSERT", "COMMIT"])
    expect(server.wire?.flights()).to.equal(3)
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "a" }])
  })

  it("begins with that read where it is a POST, in the same round trip", async () => {
    await start(read)
    server.work = readThenInsert
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.json()).to.deep.equal({ count: 0 })
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "INSERT", "COMMIT"])
    expect(server.wire?.flights()).to.equal(3)
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "a" }])
  })

  it("is one statement in a POST, too, where its session is readOnly", async () => {
    await start(read, { sessions: { readOnly: true } })
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.json()).to.deep.equal({ count: 0 })
    expect(server.log.verbs()).to.deep.equal(["SELECT"])
    expect(server.wire?.flights()).to.equal(1)
  })

  it("begins with its first raw SQL", async () => {
    await start(async (db) => db.query('SELECT "note"."text" FROM "note" "note"'))
    const reply = await server.http.get("/json")
    await server.settled()
    expect(reply.json()).to.deep.equal([])
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "COMMIT"])
  })

  it("sends nothing more where it is rolled back", async () => {
    await start(async (db) => {
      await db.count(Note)
      throw new HttpError(409)
    })
    const reply = await server.http.get("/json")
    await server.settled()
    expect(reply.status).to.equal(409)
    expect(server.log.verbs()).to.deep.equal(["SELECT"])
  })

  it("sends nothing more where the client left in mid-action", async () => {
    await start(read)
    const entered = new Deferred()
    server.work = async (db, ctx) => {
      await db.count(Note)
      entered.resolve()
      await once(ctx.res, "close")
      return {}
    }
    const { rolledBack } = server.maker.stats()
    const request = server.http.startRequest("/json")
    await entered.promise
    request.destroy()
    await server.settled()
    expect(server.log.verbs()).to.deep.equal(["SELECT"])
    expect(server.maker.stats()).to.include({ rolledBack: rolledBack + 1, active: 0 })
  })

  const begins: Record<string, { sessions: SessionsOptions; sent: string[] }> = {
    "deferBegin: false": { sessions: { deferBegin: false }, sent: ["BEGIN"] },
    'isolation: "REPEATABLE READ"': {
      sessions: { isolation: "REPEATABLE READ" },
      sent: ["BEGIN ISOLATION LEVEL REPEATABLE READ"],
    },
    timeoutMs: { sessions: { timeoutMs: 5_000 }, sent: ["BEGIN", "SET LOCAL statement_timeout = 5000"] },
    variables: {
      sessions: { variables: () => ({ "app.tenant": "7" }) },
      sent: ["BEGIN", "SELECT set_config('app.tenant', '7', true)"],
    },
  }
  for (const [what, { sessions, sent }] of Object.entries(begins)) {
    it(`begins at its first read with ${what}`, async () => {
      await start(read, { sessions })
      await server.http.get("/json")
      await server.settled()
      const [statement, ...rest] = server.log.statements().slice(sent.length)
      expect(server.log.statements().slice(0, sent.length)).to.deep.equal(sent)
      expect(statement).to.match(/^SELECT COUNT/)
      expect(rest).to.deep.equal(["COMMIT"])
      expect(server.wire?.flights()).to.equal(2)
    })
  }

  it("begins at its first read where the maker says deferBegin: false", async () => {
    await start(read, { maker: { deferBegin: false } })
    await server.http.get("/json")
    await server.settled()
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "COMMIT"])
  })

  it("begins at its first read where the server's own isolation is not READ COMMITTED", async () => {
    await start(read, { maker: { extra: { options: "-c default_transaction_isolation=repeatable\\ read" } } })
    await server.http.get("/json")
    await server.settled()
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "COMMIT"])
  })
})
