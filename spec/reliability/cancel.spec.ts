import { expect } from "chai"
import { HttpError } from "routing-controllers"
import type { SecondConnection } from "../support/databases"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import type { SessionAppOptions, Work } from "../support/session-app"
import { connectionIdSql, postgresOnly, servers } from "./support/databases"
import { eventually } from "./support/eventually"
import { expectNothingHeld, type NetworkApp, startNetworkApp } from "./support/network-app"

const DELAY_MS = 40

/** A plain read that takes seconds: no function that could count as a write. */
const slowRead = (mark: string) =>
  `SELECT count(*) AS ${mark} FROM note a, note b, note c, note d, note e, note f WHERE a.text <> f.text`

async function fill(app: NetworkApp): Promise<void> {
  await app.maker.run((db) =>
    db.insert(
      Note,
      Array.from({ length: 40 }, (_, index) => ({ text: `note ${index}` })),
    ),
  )
}

describeOnEach("the client leaves while its session's last word is under way", servers, (database) => {
  let app: NetworkApp
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  const isPostgres = database.kind === "postgres"
  const read: Work = async (db) => ({ count: await db.count(Note) })
  const rawRead: Work = (db) => db.query("SELECT 1 AS one")
  // A read of another isolation than the server's has a begin, and so an end.
  const begun = { isolation: "REPEATABLE READ" } as const
  const cases: readonly (readonly [string, string, RegExp, SessionAppOptions])[] = [
    [
      "COMMIT, for which the response waits",
      "/json",
      /^COMMIT/,
      { sessions: { ...begun, commit: "before-response" }, work: rawRead },
    ],
    [
      "COMMIT of a read in a transaction of its own isolation",
      "/json",
      /^COMMIT/,
      { sessions: { isolation: "SERIALIZABLE" }, work: read },
    ],
    [
      "COMMIT, which is sent beside a response that is long",
      "/text",
      /^COMMIT/,
      {
        sessions: begun,
        work: async (db, ctx) => {
          await rawRead(db, ctx)
          return "x".repeat(30_000_000)
        },
      },
    ],
    [
      "ROLLBACK",
      "/json",
      /^ROLLBACK/,
      {
        sessions: begun,
        work: async (db, ctx) => {
          await rawRead(db, ctx)
          throw new HttpError(418, "short and stout")
        },
      },
    ],
  ]

  for (const [what, path, pattern, options] of cases) {
    it(`never cancels a statement of the connection's next user: ${what}`, async () => {
      app = await startNetworkApp(database, { ...options, maker: { poolSize: 1 } })
      const { work } = app
      for (let round = 0; round < 3; round++) {
        // A cancel that takes its time meets the next user's statement, if anybody's.
        app.network.setDelay(DELAY_MS, isPostgres ? DELAY_MS : 2 * DELAY_MS)
        app.network.clear()
        app.work = work
        const started = app.http.startRequest(path)
        await eventually("it is under way", () => app.network.statements().some((sql) => pattern.test(sql)))
        app.work = (db) => db.query(isPostgres ? "SELECT 0 AS woken FROM pg_sleep(0.3)" : "SELECT sleep(0.3) AS woken")
        const following = app.ask("POST", "/json", 3_000)
        started.destroy()
        const { reply } = await following
        expect(reply.status, `round ${round}`).to.equal(200)
        expect(Number(reply.json<{ woken: unknown }[]>()[0]?.woken), `round ${round}`).to.equal(0)
        app.network.setDelay(0)
        await expectNothingHeld(app)
      }
    })
  }
})

describeOnEach("a client that leaves has its statement cancelled", postgresOnly, (database) => {
  let app: NetworkApp
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  it("by PostgreSQL's own cancel request, with the process id and the key of the statement's connection", async () => {
    app = await startNetworkApp(database, { maker: { poolSize: 3 } })
    await fill(app)
    const watcher = await app.database.open()
    app.work = (db, ctx) => db.query(slowRead(String(ctx.query.mark)))
    const [leaving, staying] = ["leaving", "staying"].map((mark) => app.http.startRequest(`/json?mark=${mark}`))
    await eventually("both run", async () => (await running(watcher, "")).length === 2)
    app.network.clear()
    leaving?.destroy()
    await eventually("it is cancelled", async () => (await running(watcher, "leaving")).length === 0, 1_000)
    expect(await running(watcher, "staying")).to.have.length(1)
    expect(app.network.cancels()).to.have.length(1)
    const [cancel] = app.network.cancels()
    expect(cancel?.bytes).to.equal(16)
    expect(app.network.statements().filter((sql) => /pg_cancel_backend/.test(sql))).to.deep.equal([])
    staying?.destroy()
    await eventually("both are cancelled", async () => (await running(watcher, "")).length === 0, 1_000)
    expect(app.network.cancels()).to.have.length(2)
    await expectNothingHeld(app)
  })

  it("which names the connection that the statement was sent on", async () => {
    app = await startNetworkApp(database, { maker: { poolSize: 3 } })
    await fill(app)
    const watcher = await app.database.open()
    app.work = (db) => db.query(slowRead("slow"))
    app.network.clear()
    const started = app.http.startRequest("/json")
    await eventually("it runs", async () => (await running(watcher, "slow")).length === 1)
    const [sent] = app.network.entries().filter(({ sql }) => sql.includes("slow"))
    started.destroy()
    await eventually("a cancel came", () => app.network.cancels().length === 1, 1_000)
    const [{ pid, key } = { pid: 0, key: "" }] = app.network.cancels()
    expect({ pid, key }).to.deep.equal(app.network.keyOf(sent?.connection ?? 0))
    await eventually("it is cancelled", async () => (await running(watcher, "slow")).length === 0, 1_000)
  })

  async function running(watcher: SecondConnection, mark: string): Promise<unknown[]> {
    return watcher.query(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
       AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND query LIKE 'SELECT count(*) AS ${mark}%'`,
    )
  }
})

describeOnEach("a session on a replica has its statement cancelled", servers, (database) => {
  it("at the replica's address, and nothing is sent to the primary", async () => {
    const app = await startNetworkApp(database, {
      hasReplica: true,
      maker: { poolSize: 2 },
      sessions: { readOnly: true },
    })
    let hasPassed = false
    try {
      await fill(app)
      const { network: primary, replica } = app
      if (replica === undefined) throw new Error("There is no replica.")
      let id = 0
      app.work = async (db) => {
        const [row] = (await db.query(connectionIdSql(database.kind))) as [{ id: number }]
        id = Number(row.id)
        return db.query(slowRead("slow"))
      }
      const isSlow = (sql: string) => sql.includes("AS slow")
      for (const network of [primary, replica]) network.clear()
      const connectionsBefore = primary.accepted()
      const started = app.http.startRequest("/json")
      await eventually("it runs", () => replica.statements().some(isSlow))
      const sent = replica.entries().find(({ sql }) => isSlow(sql))
      started.destroy()
      const kills = () => replica.statements().filter((sql) => /^KILL/i.test(sql))
      if (database.kind === "postgres") {
        await eventually("a cancel came", () => replica.cancels().length > 0, 1_500)
        const [{ pid, key } = { pid: 0, key: "" }] = replica.cancels()
        expect({ pid, key }).to.deep.equal(replica.keyOf(sent?.connection ?? 0))
      } else {
        await eventually("a cancel came", () => kills().length > 0, 1_500)
        expect(kills()).to.deep.equal([`KILL QUERY ${id}`])
      }
      await expectNothingHeld(app, 1_500)
      expect(primary.cancels()).to.deep.equal([])
      expect(primary.statements()).to.deep.equal([])
      expect(primary.accepted()).to.equal(connectionsBefore)
      hasPassed = true
    } finally {
      await app.end(hasPassed)
    }
  })
})

describeOnEach("a cancel that reaches nobody", servers, (database) => {
  it("ends the connection of the statement, which is not sent again", async () => {
    const app = await startNetworkApp(database, { maker: { poolSize: 3 } })
    let hasPassed = false
    try {
      await fill(app)
      app.work = (db) => db.query(slowRead("slow"))
      const sent = () => app.network.statements().filter((sql) => sql.includes("AS slow"))
      const started = app.http.startRequest("/json")
      await eventually("it runs", () => sent().length === 1)
      app.network.refuse()
      started.destroy()
      await expectNothingHeld(app, 3_000)
      expect(sent()).to.have.length(1)
      app.network.admit()
      app.work = (db) => db.count(Note)
      expect((await app.ask("GET", "/json", 2_000)).reply.text).to.equal("40")
      expect(sent()).to.have.length(1)
      hasPassed = true
    } finally {
      await app.end(hasPassed)
    }
  })
})
