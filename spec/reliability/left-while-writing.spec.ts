import { Readable } from "node:stream"
import { expect } from "chai"
import { getSession } from "../../src/koa/sessions"
import type { SessionsOptions } from "../../src/koa/sessions-options"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { servers } from "./support/databases"
import { eventually } from "./support/eventually"

/** About a second of a plain read, which a cancel would end. */
const SLOW_READ = "SELECT count(*) AS slow FROM note a, note b, note c, note d WHERE a.text <> d.text"

describeOnEach("a client leaves a request that wrote", servers, (database) => {
  let server: SessionApp
  const start = async (sessions: SessionsOptions = {}) => {
    server = await startSessionApp(database, { maker: { poolSize: 2, acquireTimeoutMs: 2_000 }, sessions })
    await server.maker.run((db) =>
      db.insert(
        Note,
        Array.from({ length: 45 }, (_, index) => ({ text: `note ${index}` })),
      ),
    )
  }
  beforeEach(() => start())
  afterEach(() => server.stop())

  const has = async (text: string) => (await server.rows(`SELECT id FROM note WHERE text = '${text}'`)).length === 1

  async function isRunning(): Promise<boolean> {
    const rows = await server.rows(
      database.kind === "postgres"
        ? `SELECT 1 AS one FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
           AND pid <> pg_backend_pid() AND query LIKE '%AS slow%'`
        : `SELECT 1 AS one FROM information_schema.processlist WHERE db = database() AND command = 'Query'
           AND id <> connection_id() AND info LIKE '%AS slow%'`,
    )
    return rows.length > 0
  }

  /** @param method of which a session is expected to read or to write */
  async function leaveWhileReading(method: "GET" | "POST"): Promise<void> {
    const started = server.http.startRequest("/json", { method })
    await eventually("the read runs", isRunning)
    started.destroy()
    await eventually("the sessions have ended", () => server.maker.stats().open === 0, 4_000)
  }

  for (const path of ["/text", "/json"] as const) {
    it(`and reads a result stream in mid-body: what was written before it is committed (${path})`, async () => {
      server.work = async (db) => {
        await db.insert(Note, { text: "before the stream" })
        const rows = await db.queryRunner?.stream(
          "SELECT repeat('x', 1000) AS filler FROM note a, note b, note c, note d, note e",
        )
        return Readable.from(fillers(rows as AsyncIterable<{ filler: string }>))
      }
      for (let round = 0; round < 2; round++) {
        const started = server.http.startRequest(path, { method: "POST" })
        expect((await started.response).statusCode).to.equal(200)
        started.destroy()
        await eventually("the session has ended", () => server.maker.stats().open === 0, 3_000)
        expect(await has("before the stream"), `round ${round}`).to.equal(true)
        await server.rows("DELETE FROM note WHERE text = 'before the stream'")
      }
    })
  }

  async function* fillers(rows: AsyncIterable<{ filler: string }>) {
    for await (const { filler } of rows) yield filler
  }

  it("in another session than the one that reads now: it runs to its end", async () => {
    let read: unknown
    server.work = async (db, ctx) => {
      const second = await getSession(ctx, { isolation: "READ COMMITTED" })
      await second.insert(Note, { text: "written" })
      read = await db.query(SLOW_READ).catch((error: unknown) => error)
      if (read instanceof Error) throw read
      await second.insert(Note, { text: "written later" })
      return { ok: true }
    }
    await leaveWhileReading("GET")
    expect(read).to.be.an("array")
    expect([await has("written"), await has("written later")]).to.deep.equal([true, true])
  })

  it("in an earlier transaction of the session, which it committed by hand: it runs to its end", async () => {
    let read: unknown
    server.work = async (db) => {
      await db.insert(Note, { text: "committed" })
      await db.commit()
      read = await db.query(SLOW_READ).catch((error: unknown) => error)
      if (read instanceof Error) throw read
      await db.insert(Note, { text: "written later" })
      return { ok: true }
    }
    await leaveWhileReading("GET")
    expect(read).to.be.an("array")
    expect([await has("committed"), await has("written later")]).to.deep.equal([true, true])
  })

  it("in a maker.run() of its action, which was committed: it runs to its end, where the application is ambient", async () => {
    await server.stop()
    await start({ ambient: true })
    let read: unknown
    server.work = async (db) => {
      await server.maker.run((other) => other.insert(Note, { text: "committed" }))
      read = await db.query(SLOW_READ).catch((error: unknown) => error)
      if (read instanceof Error) throw read
      await db.insert(Note, { text: "written later" })
      return { ok: true }
    }
    await leaveWhileReading("GET")
    expect(read).to.be.an("array")
    expect([await has("committed"), await has("written later")]).to.deep.equal([true, true])
  })
})
