import { expect } from "chai"
import { engineOf } from "../../src/engine/engine"
import type { SecondConnection } from "../support/databases"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { directly, servers } from "./support/databases"
import { eventually } from "./support/eventually"

const MARK = "slow_statement"
const NEXT = "next_statement"

describeOnEach("the client aborts during a slow statement", servers, (database) => {
  const isPostgres = database.kind === "postgres"
  let server: SessionApp
  let watcher: SecondConnection

  // A plain read that takes seconds: no function that could count as a write.
  const slowRead = isPostgres
    ? `SELECT count(*) AS ${MARK} FROM note a, note b, note c, note d, note e, note f`
    : `SELECT count(*) AS ${MARK} FROM note a, note b, note c, note d, note e, note f WHERE a.text <> f.text`
  const blockedRead = `SELECT count(*) AS ${MARK} FROM note`
  const nextRead = `SELECT count(*) AS ${NEXT} FROM note a, note b, note c, note d WHERE a.text <> d.text`
  const slowWrite = (ms: number) => (isPostgres ? `SELECT pg_sleep(${ms / 1_000})` : `SELECT sleep(${ms / 1_000})`)

  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
    await server.maker.run(async (session) => {
      for (let index = 0; index < 40; index++) await session.insert(Note, { text: `note ${index}` })
    })
    watcher = await server.database.open()
  })
  afterEach(() => server.stop())

  async function isRunning(text: string): Promise<boolean> {
    const rows = await watcher.query(
      isPostgres
        ? `SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%${text}%'`
        : `SELECT 1 FROM information_schema.processlist WHERE command = 'Query' AND id <> connection_id() AND info LIKE '%${text}%'`,
    )
    return rows.length > 0
  }

  it("cancels it in the database within 200 ms where the session only read", async () => {
    server.work = (db) => db.query(slowRead)
    const tookMs: number[] = []
    for (let round = 0; round < 3; round++) {
      const started = server.http.startRequest("/json")
      await eventually("it runs", () => isRunning(MARK))
      const abortedAt = performance.now()
      started.destroy()
      await eventually("it is cancelled", async () => !(await isRunning(MARK)), 2_000)
      tookMs.push(performance.now() - abortedAt)
      await server.settled()
    }
    // The median: a machine that is busy with something else may hold one of them up.
    expect(tookMs.sort((a, b) => a - b)[1]).to.be.below(200)
    expect(server.maker.stats()).to.include({ open: 0, active: 0, committed: 1 })
    server.work = (db) => db.count(Note)
    expect((await server.http.get("/json")).text).to.equal("40")
  })

  it("lets it run to its end, and commits, where the session wrote", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: "kept" })
      await db.query(slowWrite(500))
      return { ok: true }
    }
    const started = server.http.startRequest("/json", { method: "POST" })
    await eventually("it runs", () => isRunning("sleep(0.5"))
    started.destroy()
    await eventually("the session has ended", () => server.maker.stats().open === 0)
    expect(await directly(server, "SELECT text FROM note WHERE text = 'kept'")).to.have.length(1)
    expect(server.maker.stats()).to.include({ committed: 2, failed: 0 })
  })

  it("rolls back by the table where the session wrote and the action then throws", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: "undone" })
      await db.query(slowWrite(300))
      throw new Error("The action failed.")
    }
    const started = server.http.startRequest("/json", { method: "POST" })
    await eventually("it runs", () => isRunning("sleep(0.3"))
    started.destroy()
    await eventually("the session has ended", () => server.maker.stats().open === 0)
    expect(await directly(server, "SELECT text FROM note WHERE text = 'undone'")).to.deep.equal([])
  })

  it("never cancels a statement of the request that has the connection next", async () => {
    // The cancel is held up until the next request runs its statement, or shows that it does not before the cancel is done.
    const engine = engineOf(await server.maker.dataSource()) as unknown as {
      cancel(...target: unknown[]): Promise<void>
    }
    const cancel = engine.cancel.bind(engine)
    let isCancelling = false
    engine.cancel = async (...target) => {
      isCancelling = true
      await eventually("the next one runs", () => isRunning(NEXT), 300).catch(() => undefined)
      return cancel(...target)
    }
    const lock = await server.database.open()
    await lock.query(isPostgres ? "BEGIN" : "LOCK TABLES note WRITE, note a WRITE, note b WRITE, note c WRITE")
    if (isPostgres) await lock.query("LOCK TABLE note IN ACCESS EXCLUSIVE MODE")
    server.work = (db, ctx) => db.query(ctx.query.next === undefined ? blockedRead : nextRead)
    const started = server.http.startRequest("/json")
    await eventually("it runs", () => isRunning(MARK))
    const following = server.http.get("/json?next")
    await eventually("the next one waits", () => server.maker.stats().waiting === 1)
    started.destroy()
    await eventually("the cancel is under way", () => isCancelling)
    await lock.query(isPostgres ? "COMMIT" : "UNLOCK TABLES")
    expect((await following).status).to.equal(200)
    await server.settled()
  })
})
