import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import type { Work } from "../support/session-app"
import { killConnection, servers } from "./support/databases"
import { eventually } from "./support/eventually"
import { expectNothingHeld, type NetworkApp, startNetworkApp } from "./support/network-app"

const POOL = 5
const SLOW_READ = "SELECT count(*) AS slow FROM note a, note b, note c, note d, note e, note f WHERE a.text <> f.text"

describeOnEach("a statement that runs is not sent again", servers, (database) => {
  let app: NetworkApp
  const isPostgres = database.kind === "postgres"

  beforeEach(async () => {
    app = await startNetworkApp(database, {
      maker: { poolSize: POOL, acquireTimeoutMs: 1_500 },
      // Where reads may go without a begin, on MariaDB as well.
      sessions: { isolation: "READ COMMITTED" },
    })
    await app.maker.run((db) =>
      db.insert(
        Note,
        Array.from({ length: 40 }, (_, index) => ({ text: `note ${index}` })),
      ),
    )
    await warm()
  })
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  /** Every connection of the pool is open and idle: each could be tried. */
  async function warm(): Promise<void> {
    app.work = (db) => db.query(isPostgres ? "SELECT pg_sleep(0.05)" : "SELECT sleep(0.05)")
    await Promise.all(Array.from({ length: POOL }, () => app.ask("POST", "/json", 3_000)))
    await app.settled()
    expect(app.maker.stats().pool.size).to.equal(POOL)
    app.network.clear()
  }

  const sent = (pattern: RegExp) => app.network.statements().filter((sql) => pattern.test(sql))

  const insertSlowly: Work = async (db) => {
    await db.query(
      isPostgres
        ? "INSERT INTO note (text) SELECT concat('x ', random()) FROM pg_sleep(1)"
        : "INSERT INTO note (text) SELECT concat('x ', rand()) FROM (SELECT sleep(1)) s",
    )
    return { ok: true }
  }

  it("where its connection is cut while it runs: an INSERT arrives once", async () => {
    app.network.on(/^INSERT/, { cutAfterMs: 300 }, 100)
    app.work = insertSlowly
    const { reply } = await app.ask("POST", "/json", 4_000)
    expect(reply.status).to.equal(503)
    expect(sent(/^INSERT/)).to.have.length(1)
    await expectNothingHeld(app)
    const [row] = await app.rows("SELECT count(*) AS n FROM note WHERE text LIKE 'x %'")
    expect(Number(row?.n)).to.equal(0)
  })

  it("where its connection is cut while it runs: a read arrives once", async () => {
    app.network.on(/AS slow/, { cutAfterMs: 300 }, 100)
    app.work = (db) => db.query(SLOW_READ)
    const { reply } = await app.ask("GET", "/json", 4_000)
    expect(reply.status).to.equal(503)
    expect(sent(/AS slow/)).to.have.length(1)
  })

  for (const [kind, read] of [
    ["raw SQL", (db) => db.query("SELECT text FROM note AS Note")],
    ["TypeORM's own", (db) => db.find(Note)],
  ] as const satisfies readonly (readonly [string, Work])[]) {
    it(`where an administrator ends its connection: a read arrives once (${kind})`, async () => {
      const lock = await app.database.open()
      await lock.query(isPostgres ? "BEGIN" : "LOCK TABLES note WRITE")
      if (isPostgres) await lock.query("LOCK TABLE note IN ACCESS EXCLUSIVE MODE")
      const isRead = /^SELECT .*note.*note/is
      app.work = read
      let isAnswered = false
      const asked = app.ask("GET", "/json", 4_500).finally(() => {
        isAnswered = true
      })
      // Each time that it comes: once for each connection of the pool where it is sent again.
      while (!isAnswered) {
        const ids = await runningIds("note")
        // Under way for longer than a connection that had died before takes to say so.
        await new Promise((resolve) => setTimeout(resolve, 100))
        for (const id of ids) await killConnection(app, database.kind, id).catch(() => undefined)
      }
      const { reply } = await asked
      await lock.close()
      expect(reply.status).to.equal(503)
      expect(sent(isRead)).to.have.length(1)
    })
  }

  it("where its client has left and the connection ends: a read arrives once", async () => {
    app.work = (db) => db.query(SLOW_READ)
    const started = app.http.startRequest("/json")
    await eventually("it runs", async () => (await runningIds("AS slow")).length === 1)
    app.network.on(/AS slow/, "cut before", 100)
    app.network.refuse()
    started.destroy()
    for (const id of await runningIds("AS slow")) await killConnection(app, database.kind, id)
    await expectNothingHeld(app, 3_000)
    expect(sent(/AS slow/)).to.have.length(1)
  })

  it("and where connections die again and again, the answer comes within acquireTimeoutMs", async () => {
    app.network.on(/^(INSERT|START|BEGIN)/, { cutAfterMs: 600 }, 100)
    app.work = insertSlowly
    const { reply, tookMs } = await app.ask("POST", "/json", 4_500)
    expect(reply.status).to.equal(503)
    expect(tookMs).to.be.below(1_500 + 700)
  })

  it("and where they die at their begin on a slow network, the answer comes within acquireTimeoutMs", async () => {
    app.network.setDelay(150)
    app.network.on(/^(INSERT|START|BEGIN)/, "cut before", 100)
    app.work = insertSlowly
    const { reply, tookMs } = await app.ask("POST", "/json", 4_500)
    expect(reply.status).to.equal(503)
    expect(tookMs).to.be.below(1_500 + 700)
  })

  it("while connections that were cut as they were idle are replaced, and each INSERT arrives once at the server", async () => {
    app.network.cut()
    app.work = async (db, ctx) => {
      await db.insert(Note, { text: String(ctx.query.text) })
      return { ok: true }
    }
    const asked = await Promise.all(
      Array.from({ length: 10 }, (_, index) => app.ask("POST", `/json?text=new${index}`, 3_000)),
    )
    expect([...new Set(asked.map(({ reply }) => reply.status))]).to.deep.equal([200])
    const [row] = await app.rows("SELECT count(*) AS n FROM note WHERE text LIKE 'new%'")
    expect(Number(row?.n)).to.equal(10)
  })

  async function runningIds(text: string): Promise<number[]> {
    const rows = await app.rows(
      isPostgres
        ? `SELECT pid AS id FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
           AND pid <> pg_backend_pid() AND query LIKE 'SELECT%${text}%'`
        : `SELECT id AS id FROM information_schema.processlist WHERE db = database() AND command = 'Query'
           AND id <> connection_id() AND info LIKE 'SELECT%${text}%'`,
    )
    return rows.map(({ id }) => Number(id))
  }
})
