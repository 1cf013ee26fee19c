import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { startSessionApp, type Work } from "../support/session-app"
import { directly, postgresOnly } from "./support/databases"
import { eventually } from "./support/eventually"
import { expectNothingHeld, type NetworkApp, startNetworkApp } from "./support/network-app"
import { codesOf, recordOutcome } from "./support/outcomes"
import { type PrivatePostgres, startPrivatePostgres } from "./support/private-postgres"

const ANSWER_MS = 400
const COMMIT = /^COMMIT/

/** COMMIT takes this long, as the table's deferred trigger waits. */
const slowCommit = (seconds: number) => `
  CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(${seconds}); RETURN NULL; END';
  CREATE CONSTRAINT TRIGGER waiting AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`

describeOnEach("resolveCommits: true, and the answer to COMMIT is lost", postgresOnly, (database) => {
  let app: NetworkApp
  let called: string[]
  let tries: number

  const ways: Readonly<Record<string, Work>> = {
    "a plain insert": (db) => db.insert(Note, { text: "kept" }),
    "an insert inside a block": (db) => db.transaction((inner) => inner.insert(Note, { text: "kept" })),
    "an insert after a read": async (db) => {
      await db.count(Note)
      await db.insert(Note, { text: "kept" })
    },
    "several statements in one text": (db) =>
      db.query("INSERT INTO note (text) VALUES ('kept'); UPDATE counter SET value = value + 1"),
    "a write inside a read": (db) =>
      db.query("WITH w AS (INSERT INTO note (text) VALUES ('kept') RETURNING id) SELECT id FROM w"),
    "an insert on the driver's client": async (db) => {
      const client = (await db.queryRunner?.connect()) as { query(sql: string): Promise<unknown> }
      await client.query("INSERT INTO note (text) VALUES ('kept')")
    },
  }

  const doing =
    (way: Work): Work =>
    async (db, ctx) => {
      tries++
      recordOutcome(db, called)
      await way(db, ctx)
      return { ok: true }
    }
  const insert = doing((db) => db.insert(Note, { text: "kept" }))

  const start = async (work: Work, retries = 0, poolSize = 2) => {
    app = await startNetworkApp(database, {
      work,
      maker: { poolSize, acquireTimeoutMs: 1_500, resolveCommits: true, answerTimeoutMs: ANSWER_MS },
      sessions: { retries },
    })
  }
  const kept = async () => (await app.rows("SELECT text FROM note")).map(({ text }) => text)

  beforeEach(() => {
    called = []
    tries = 0
  })
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  async function expectCommitted(): Promise<void> {
    const { reply } = await app.ask("POST", "/json", 3_000)
    expect(reply.status).to.equal(200)
    expect(await kept()).to.deep.equal(["kept"])
    expect(called).to.deep.equal(["committed", "completed: committed"])
    expect(tries).to.equal(1)
    expect(codesOf(app.errors.errors())).to.not.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
    await expectNothingHeld(app)
    expect(app.maker.stats()).to.include({ committed: 1, failed: 0 })
  }

  async function expectRolledBack(): Promise<void> {
    const { reply } = await app.ask("POST", "/json", 3_000)
    expect(reply.status).to.equal(503)
    expect(reply.headers).to.have.property("retry-after")
    expect(await kept()).to.deep.equal([])
    expect(called).to.deep.equal(["rolled back", "completed: rolled back"])
    expect(codesOf(app.errors.errors())).to.not.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
    await expectNothingHeld(app)
  }

  for (const [way, work] of Object.entries(ways)) {
    it(`answers as usual where it was committed: ${way}`, async () => {
      await start(doing(work))
      app.network.on(COMMIT, "cut answer")
      await expectCommitted()
    })
  }

  it("answers as usual where it was committed and the network is silent on that connection", async () => {
    await start(insert)
    app.network.on(COMMIT, "lose answer")
    await expectCommitted()
  })

  it("asks on a pool of 1, whose only connection is the one that was lost", async () => {
    await start(insert, 0, 1)
    app.network.on(COMMIT, "cut answer")
    await expectCommitted()
  })

  it("asks until the server knows, where the COMMIT is in progress still", async () => {
    await start(insert)
    // It goes on for 200 ms after the cut, half of what the session asks for.
    for (const sql of slowCommit(0.3).split("\n").filter(Boolean)) await directly(app, sql.replace(/;$/, ""))
    app.network.on(COMMIT, { cutAfterMs: 100 })
    await expectCommitted()
  })

  it("answers 503 with Retry-After where the COMMIT never came, and tells the functions so", async () => {
    await start(insert)
    app.network.on(COMMIT, "cut before")
    await expectRolledBack()
  })

  it("tries again where the COMMIT never came and retries are left", async () => {
    await start(insert, 2)
    app.network.on(COMMIT, "cut before")
    const { reply } = await app.ask("POST", "/json", 3_000)
    expect(reply.status).to.equal(200)
    expect(tries).to.equal(2)
    expect(await kept()).to.deep.equal(["kept"])
  })

  it("does not try again where it was committed and retries are left", async () => {
    await start(insert, 2)
    app.network.on(COMMIT, "cut answer")
    await expectCommitted()
  })

  it("leaves the outcome unknown where nobody can be asked", async () => {
    await start(insert, 2)
    app.network.refuse()
    app.network.on(COMMIT, "cut answer")
    const { reply } = await app.ask("POST", "/json", 4_500)
    expect(reply.status).to.equal(500)
    expect(reply.headers).to.not.have.property("retry-after")
    expect(codesOf(app.errors.errors())).to.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
    expect(called).to.deep.equal(["completed: unknown"])
    expect(tries).to.equal(1)
    expect(await kept()).to.deep.equal(["kept"])
  })

  it("answers 20 requests at once by what is stored, each with its own outcome", async () => {
    await start(
      doing((db, ctx) => db.insert(Note, { text: String(ctx.query.text) })),
      0,
      5,
    )
    app.network.on(COMMIT, "cut answer", 10)
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        const { reply } = await app.ask("POST", `/json?text=note${index}`, 4_500)
        return { text: `note${index}`, status: reply.status }
      }),
    )
    const stored = await kept()
    const wrong = answers.filter(({ text, status }) => (status === 200) !== stored.includes(text))
    expect(wrong).to.deep.equal([])
    expect(answers.filter(({ status }) => status === 200)).to.have.length(20)
  })
})

describeOnEach("resolveCommits: true, and nothing is lost", postgresOnly, (database) => {
  it("costs no round trip: the transaction's id comes with the first write", async () => {
    const server = await startSessionApp(database, {
      maker: { poolSize: 1, resolveCommits: true },
      work: async (db) => {
        await db.insert(Note, { text: `${Math.random()}` })
        return { ok: true }
      },
    })
    try {
      server.wire?.setDelay(2)
      await server.http.post("/json")
      await server.settled()
      server.wire?.clear()
      expect((await server.http.post("/json")).status).to.equal(200)
      await server.settled()
      expect(server.wire?.flights()).to.equal(2)
      expect(server.wire?.statements().join(" ")).to.match(/xact_id|txid_current/)
    } finally {
      await server.stop()
    }
  })

  it("asks for no id in a session that only reads", async () => {
    const server = await startSessionApp(database, {
      maker: { poolSize: 1, resolveCommits: true },
      work: async (db) => ({ count: await db.count(Note) }),
    })
    try {
      const id = async () => Number((await directly(server, "SELECT pg_current_xact_id() AS id"))[0]?.id)
      const given: number[] = []
      for (let round = 0; round < 3; round++) {
        const before = await id()
        expect((await server.http.get("/json")).status).to.equal(200)
        await server.settled()
        given.push((await id()) - before)
      }
      // The whole cluster counts: autovacuum may have taken one meanwhile.
      expect(Math.min(...given)).to.equal(1)
    } finally {
      await server.stop()
    }
  })
})

describe("resolveCommits: true, and the server crashes before the COMMIT comes (PostgreSQL)", function () {
  this.timeout(30_000)
  let cluster: PrivatePostgres
  let app: NetworkApp

  before(async () => {
    cluster = await startPrivatePostgres()
  })
  after(() => cluster.remove())
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  it("leaves the outcome unknown, whatever became of the transaction that was given its id then", async () => {
    app = await startNetworkApp(cluster.database, {
      work: (db) => db.insert(Note, { text: "lost" }),
      maker: { poolSize: 2, acquireTimeoutMs: 1_500, resolveCommits: true, answerTimeoutMs: 10_000 },
    })
    app.network.on(COMMIT, "lose statement")
    const asking = app.ask("POST", "/json", 10_000)
    await eventually("COMMIT is sent", () => app.network.verbs().includes("COMMIT"))
    await cluster.restart("SIGQUIT")
    // Nothing of the request had been written to disk, so that the server gives its id, and some more, to others.
    for (let n = 0; n < 50; n++) await directly(app, "SELECT txid_current()")
    app.network.cut()
    expect((await asking).reply.status).to.equal(500)
    expect(codesOf(app.errors.errors())).to.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
    expect(await directly(app, "SELECT text FROM note")).to.deep.equal([])
  })
})
