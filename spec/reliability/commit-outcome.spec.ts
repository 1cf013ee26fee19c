import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import type { Fate } from "../support/faulty-network"
import { Note } from "../support/http-entities"
import type { Work } from "../support/session-app"
import { connectionIdSql, killConnection, postgresOnly, servers } from "./support/databases"
import { eventually } from "./support/eventually"
import { expectNothingHeld, type NetworkApp, type NetworkAppOptions, startNetworkApp } from "./support/network-app"
import { codesOf, recordOutcome } from "./support/outcomes"
import { within } from "./support/within"

const ANSWER_MS = 400
const COMMIT = /^COMMIT/

const kept = async (app: NetworkApp) => (await app.rows("SELECT text FROM note")).map(({ text }) => text)

/** The next request works, and on a pool of 1: the place of the lost connection has come back. */
async function expectNextServed(app: NetworkApp): Promise<void> {
  await expectNothingHeld(app)
  app.work = async (db) => {
    await db.insert(Note, { text: "next" })
    return { ok: true }
  }
  expect((await app.ask("POST", "/json", 2_000)).reply.status).to.equal(200)
}

describeOnEach("COMMIT was sent and its answer never comes", servers, (database) => {
  let app: NetworkApp
  let called: string[]
  let tries: number
  const work: Work = async (db) => {
    tries++
    recordOutcome(db, called)
    await db.insert(Note, { text: "kept" })
    return { ok: true }
  }
  const start = async (options: NetworkAppOptions = {}) => {
    app = await startNetworkApp(database, {
      work,
      ...options,
      maker: { poolSize: 1, acquireTimeoutMs: 1_500, ...options.maker },
    })
  }

  beforeEach(() => {
    called = []
    tries = 0
  })
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  async function expectUnknown(reply: Awaited<ReturnType<NetworkApp["ask"]>>["reply"]): Promise<void> {
    expect(reply.status).to.equal(500)
    expect(reply.headers).to.not.have.property("retry-after")
    expect(reply.text).to.not.match(/COMMIT|ECONN|127\.0\.0\.1|terminated/i)
    expect(codesOf(app.errors.errors())).to.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
    expect(called).to.deep.equal(["completed: unknown"])
    expect(tries).to.equal(1)
  }

  for (const [how, fate] of [
    ["the connection is cut", "cut answer"],
    ["nothing more is heard", "lose answer"],
  ] as const satisfies readonly (readonly [string, Fate])[]) {
    it(`is answered 500 without Retry-After, runs no afterRollback and is not tried again, where ${how}`, async () => {
      await start({ maker: { answerTimeoutMs: ANSWER_MS }, sessions: { retries: 2 } })
      app.network.on(COMMIT, fate)
      const { reply, tookMs } = await app.ask("POST", "/json", 3_000)
      await expectUnknown(reply)
      expect(tookMs).to.be.below(ANSWER_MS + 1_500)
      expect(await kept(app)).to.deep.equal(["kept"])
      expect(app.network.verbs().filter((verb) => verb === "INSERT")).to.have.length(1)
      await expectNextServed(app)
    })

    it(`is called unknown as well where the COMMIT never reached the server, and ${how}`, async () => {
      await start({ maker: { answerTimeoutMs: ANSWER_MS } })
      app.network.on(COMMIT, fate === "cut answer" ? "cut before" : "lose statement")
      const { reply } = await app.ask("POST", "/json", 3_000)
      await expectUnknown(reply)
      expect(await kept(app)).to.deep.equal([])
    })

    it(`rejects commit() by hand, where ${how}`, async () => {
      await start({ maker: { answerTimeoutMs: ANSWER_MS } })
      app.network.on(COMMIT, fate)
      const run = app.maker.run(async (db) => {
        recordOutcome(db, called)
        await db.insert(Note, { text: "kept" })
        await db.commit()
      })
      const { value } = await within(3_000, "commit()", Promise.allSettled([run]))
      expect(value[0]).to.have.property("status", "rejected")
      expect(codesOf(value.map((one) => (one.status === "rejected" ? one.reason : undefined)))).to.include(
        "ERR_SESSION_COMMIT_OUTCOME_UNKNOWN",
      )
      expect(called).to.deep.equal(["completed: unknown"])
      expect(await kept(app)).to.deep.equal(["kept"])
    })

    it(`rejects maker.run(), where ${how}`, async () => {
      await start({ maker: { answerTimeoutMs: ANSWER_MS } })
      app.network.on(COMMIT, fate)
      const run = app.maker.run((db) => work(db, {} as never))
      const { value } = await within(3_000, "run()", Promise.allSettled([run]))
      expect(codesOf(value.map((one) => (one.status === "rejected" ? one.reason : undefined)))).to.include(
        "ERR_SESSION_COMMIT_OUTCOME_UNKNOWN",
      )
      expect(called).to.deep.equal(["completed: unknown"])
    })
  }

  it("is reported where the commit comes after the response", async () => {
    await start({ sessions: { commit: "after-response" } })
    app.network.on(COMMIT, "cut answer")
    expect((await app.ask("POST", "/json", 3_000)).reply.status).to.equal(200)
    const { value } = await within(2_000, "the error", app.errors.next())
    expect(codesOf([value.error])).to.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
    await eventually("its functions have run", () => called.length > 0)
    expect(called).to.deep.equal(["completed: unknown"])
  })

  it("is unknown where maker.close() gives up on it", async () => {
    await start()
    app.network.on(COMMIT, "lose answer")
    const asked = app.ask("POST", "/json", 4_000)
    await eventually("COMMIT is under way", () => app.network.verbs().includes("COMMIT"))
    await within(2_000, "close()", app.maker.close({ timeoutMs: 200 }))
    await expectUnknown((await asked).reply)
    expect(await kept(app)).to.deep.equal(["kept"])
  })
})

describeOnEach("the driver's own time out (query_timeout) runs out during COMMIT", postgresOnly, (database) => {
  it("leaves the outcome unknown", async () => {
    const called: string[] = []
    const app = await startNetworkApp(database, {
      query: "query_timeout=400",
      maker: { poolSize: 1 },
      sessions: { retries: 2 },
      work: async (db) => {
        recordOutcome(db, called)
        await db.insert(Note, { text: "kept" })
        return { ok: true }
      },
    })
    let hasPassed = false
    try {
      app.network.on(COMMIT, "lose answer")
      const { reply } = await app.ask("POST", "/json", 3_000)
      expect(reply.status).to.equal(500)
      expect(reply.headers).to.not.have.property("retry-after")
      expect(codesOf(app.errors.errors())).to.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
      expect(called).to.deep.equal(["completed: unknown"])
      expect(await kept(app)).to.deep.equal(["kept"])
      await expectNextServed(app)
      hasPassed = true
    } finally {
      await app.end(hasPassed)
    }
  })
})

describeOnEach("the connection is dead before COMMIT is sent", servers, (database) => {
  let app: NetworkApp
  let called: string[]
  let tries: number
  let killed: number

  /** Its backend is killed after the insert, as often as `killed` says, and the driver has heard of it before the action returns. */
  const work: Work = async (db) => {
    tries++
    recordOutcome(db, called)
    await db.insert(Note, { text: "note" })
    if (killed-- > 0) {
      const [{ id }] = (await db.query(connectionIdSql(database.kind))) as [{ id: number }]
      const client = (await db.queryRunner?.connect()) as NodeJS.EventEmitter
      const seen = new Promise((resolve) => client.once("end", resolve).once("error", resolve))
      await killConnection(app, database.kind, id)
      await seen
    }
    return { ok: true }
  }

  beforeEach(() => {
    called = []
    tries = 0
    killed = 1
  })
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  it("is rolled back: 503 with Retry-After", async () => {
    app = await startNetworkApp(database, { maker: { poolSize: 1 }, work })
    const { reply } = await app.ask("POST", "/json", 3_000)
    expect(reply.status).to.equal(503)
    expect(reply.headers).to.have.property("retry-after")
    expect(called).to.deep.equal(["rolled back", "completed: rolled back"])
    expect(app.network.verbs()).to.not.include("COMMIT")
    expect(codesOf(app.errors.errors())).to.not.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
    expect(await kept(app)).to.deep.equal([])
    await expectNextServed(app)
  })

  it("is tried again where retries are left", async () => {
    app = await startNetworkApp(database, { maker: { poolSize: 1 }, sessions: { retries: 1 }, work })
    const { reply } = await app.ask("POST", "/json", 3_000)
    expect(reply.status).to.equal(200)
    expect(tries).to.equal(2)
    expect(called).to.deep.equal(["rolled back", "completed: rolled back", "committed", "completed: committed"])
    expect(await kept(app)).to.deep.equal(["note"])
  })

  it("is tried again where a statement found it dead", async () => {
    app = await startNetworkApp(database, { maker: { poolSize: 1 }, sessions: { retries: 1 } })
    app.work = async (db, ctx) => {
      const result = await work(db, ctx)
      await db.query("SELECT 1")
      return result
    }
    const { reply } = await app.ask("POST", "/json", 3_000)
    expect(reply.status).to.equal(200)
    expect(tries).to.equal(2)
    expect(await kept(app)).to.deep.equal(["note"])
  })
})
