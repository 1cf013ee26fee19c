import { readFile } from "node:fs/promises"
import { expect } from "chai"
import { HttpError } from "routing-controllers"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import type { SessionAppOptions, Work } from "../support/session-app"
import { servers } from "./support/databases"
import { expectNothingHeld, type NetworkApp, startNetworkApp } from "./support/network-app"
import { within } from "./support/within"

const TIMEOUT_MS = 500
const ANSWER_MS = 400
/** What the client's side of `timeoutMs` leaves to the database, which is to speak first. */
const CLIENT_MS = 1_000
const SLACK_MS = 700

const insert: Work = async (db, ctx) => {
  await db.insert(Note, { text: String(ctx.query.text) })
  return { ok: true }
}

const MANY_ROWS =
  "WITH RECURSIVE series AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM series WHERE n < 900) " +
  "SELECT a.n, repeat('x', 1000) AS filler FROM series a CROSS JOIN series b"

describeOnEach("no packet passes any more, and nothing is closed", servers, (database) => {
  let app: NetworkApp
  const start = async (options: SessionAppOptions = {}) => {
    app = await startNetworkApp(database, {
      work: insert,
      ...options,
      maker: { poolSize: 2, acquireTimeoutMs: 1_500, answerTimeoutMs: ANSWER_MS, ...options.maker },
    })
  }
  const texts = async () => (await app.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text)

  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  /** Both connections of the pool are open and idle. */
  async function warm(): Promise<void> {
    await Promise.all([0, 1].map((index) => app.ask("POST", `/json?text=warm${index}`, 2_000)))
    await app.settled()
  }

  async function expectServedAgain(): Promise<void> {
    await expectNothingHeld(app)
    app.network.resume()
    app.work = insert
    const replies = await Promise.all(
      ["a", "b", "c"].map((name) => app.ask("POST", `/json?text=after%20${name}`, 2_000)),
    )
    expect(replies.map(({ reply }) => reply.status)).to.deep.equal([200, 200, 200])
    expect((await texts()).filter((text) => String(text).startsWith("after"))).to.have.length(3)
    await expectNothingHeld(app)
    expect(app.maker.stats().pool.size).to.be.at.most(2)
  }

  it("answers a statement with 503 one second after timeoutMs at the latest, and the places come back", async () => {
    await start({ sessions: { timeoutMs: TIMEOUT_MS } })
    await warm()
    app.work = async (db) => {
      await db.insert(Note, { text: "undone" })
      app.network.silence()
      await db.insert(Note, { text: "unheard" })
      return { ok: true }
    }
    const { reply, tookMs } = await app.ask("POST", "/json", 4_000)
    expect(reply.status).to.equal(503)
    expect(tookMs).to.be.below(TIMEOUT_MS + CLIENT_MS + ANSWER_MS + SLACK_MS)
    await expectServedAgain()
    expect(await texts()).to.not.include("undone")
  })

  it("answers a read, which is the session's first statement, in the same time", async () => {
    await start({ sessions: { timeoutMs: TIMEOUT_MS } })
    await warm()
    app.work = async (db) => ({ count: await db.count(Note) })
    app.network.silence()
    const asked = await Promise.all([0, 1, 2].map(() => app.ask("GET", "/json", 4_500)))
    for (const { reply, tookMs } of asked) {
      expect(reply.status).to.equal(503)
      expect(tookMs).to.be.below(1_500 + TIMEOUT_MS + CLIENT_MS + SLACK_MS)
    }
    await expectServedAgain()
  })

  it("answers the begin of an idle connection with 503 within answerTimeoutMs, without timeoutMs", async () => {
    await start()
    await warm()
    app.network.silence()
    const { reply, tookMs } = await app.ask("POST", "/json?text=unheard", 4_000)
    expect(reply.status).to.equal(503)
    expect(tookMs).to.be.below(ANSWER_MS + 1_500)
    await expectServedAgain()
    expect(await texts()).to.not.include("unheard")
  })

  it("ends a result stream that waits for rows one second after timeoutMs at the latest", async () => {
    await start({ sessions: { timeoutMs: TIMEOUT_MS } })
    await warm()
    app.work = async (db) => {
      const rows = await db.queryRunner?.stream(MANY_ROWS)
      let read = 0
      for await (const _ of rows as AsyncIterable<unknown>) if (++read === 200) app.network.silence()
      return { read }
    }
    const { reply, tookMs } = await app.ask("POST", "/json", 6_000)
    expect(reply.status).to.be.within(500, 503)
    expect(tookMs).to.be.below(TIMEOUT_MS + CLIENT_MS + ANSWER_MS + SLACK_MS)
    await expectServedAgain()
  })

  it("ends a result stream that is left early within answerTimeoutMs, without timeoutMs", async () => {
    await start()
    await warm()
    app.work = async (db) => {
      const rows = await db.queryRunner?.stream(MANY_ROWS)
      for await (const _ of rows as AsyncIterable<unknown>) {
        app.network.silence()
        break
      }
      throw new HttpError(418, "left")
    }
    const { reply, tookMs } = await app.ask("POST", "/json", 6_000)
    expect(reply.status).to.be.within(418, 503)
    // MariaDB's cancel is given two seconds.
    expect(tookMs).to.be.below(2_000 + 2 * ANSWER_MS + SLACK_MS)
    await expectServedAgain()
  })

  it("answers a COMMIT within answerTimeoutMs", async () => {
    await start()
    app.work = async (db, ctx) => {
      await insert(db, ctx)
      app.network.silence()
      return { ok: true }
    }
    const { reply, tookMs } = await app.ask("POST", "/json?text=unheard", 4_000)
    expect(reply.status).to.equal(500)
    expect(tookMs).to.be.below(ANSWER_MS + SLACK_MS)
    await expectServedAgain()
  })

  it("answers with the action's own error within answerTimeoutMs where it is the ROLLBACK", async () => {
    await start()
    app.work = async (db, ctx) => {
      await insert(db, ctx)
      app.network.silence()
      throw new HttpError(418, "short and stout")
    }
    const { reply, tookMs } = await app.ask("POST", "/json?text=undone", 4_000)
    expect(reply.status).to.equal(418)
    expect(tookMs).to.be.below(ANSWER_MS + SLACK_MS)
    await expectServedAgain()
    expect(await texts()).to.not.include("undone")
  })

  it("answers the end of a transaction() block within answerTimeoutMs", async () => {
    await start()
    app.work = async (db) => {
      await db.insert(Note, { text: "undone" })
      await db.transaction(async (inner) => {
        await inner.insert(Note, { text: "undone inside" })
        app.network.silence()
      })
      return { ok: true }
    }
    const { reply, tookMs } = await app.ask("POST", "/json", 4_000)
    expect(reply.status).to.equal(503)
    expect(tookMs).to.be.below(ANSWER_MS * 2 + SLACK_MS)
    await expectServedAgain()
    expect((await texts()).filter((text) => String(text).startsWith("undone"))).to.deep.equal([])
  })

  it("closes a session by hand within answerTimeoutMs", async () => {
    await start()
    const session = await app.maker.open()
    await session.insert(Note, { text: "undone" })
    app.network.silence()
    await within(ANSWER_MS + SLACK_MS, "close()", Promise.allSettled([session.close()]))
    await expectServedAgain()
    expect(await texts()).to.not.include("undone")
  })

  it("gives up a connect within acquireTimeoutMs, and its place comes back with the network", async () => {
    await start({ maker: { poolSize: 1, acquireTimeoutMs: 700 } })
    await app.settled()
    // The connection that made the tables is used up: the next one is new.
    app.network.cut()
    app.network.silence()
    const { reply, tookMs } = await app.ask("POST", "/json?text=unheard", 4_000)
    expect(reply.status).to.equal(503)
    expect(tookMs).to.be.below(700 + SLACK_MS)
    await expectServedAgain()
  })

  it("keeps a TCP keep-alive timer on its idle connections", async function () {
    await start()
    await warm()
    const timers = await readFile("/proc/net/tcp", "utf8").catch(() => undefined)
    if (timers === undefined) return this.skip()
    const port = app.network.port.toString(16).toUpperCase().padStart(4, "0")
    const isClient = new RegExp(`^\\s*\\d+: \\S+ 0100007F:${port} 01 \\S+ (\\w\\w):`)
    const armed = timers.split("\n").flatMap((line) => isClient.exec(line)?.[1] ?? [])
    expect(armed).to.not.have.length(0)
    expect([...new Set(armed)]).to.deep.equal(["02"])
  })
})

describeOnEach(
  "packets pass only on new connections, as after a firewall forgot the idle ones",
  servers,
  (database) => {
    let app: NetworkApp
    afterEach(function () {
      return app.end(this.currentTest?.state === "passed")
    })

    const storeAnew: Work = async (db, ctx) => {
      const random = database.kind === "postgres" ? "random()" : "rand()"
      await db.query(`INSERT INTO note (text) SELECT concat('${ctx.query.text} ', ${random})`)
      return { ok: true }
    }

    async function timesStored(text: string): Promise<number> {
      const [row] = await app.rows(`SELECT count(*) AS n FROM note WHERE text LIKE '${text} %'`)
      return Number(row?.n)
    }

    it("serves every request, or refuses it with 503 within answerTimeoutMs, and stores nothing twice", async () => {
      app = await startNetworkApp(database, {
        maker: { poolSize: 3, acquireTimeoutMs: 2_000, answerTimeoutMs: ANSWER_MS },
        work: storeAnew,
      })
      await Promise.all([0, 1, 2].map((index) => app.ask("POST", `/json?text=warm${index}`, 2_000)))
      await app.settled()
      app.network.silence("open now")
      const names = ["a", "b", "c", "d", "e", "f"]
      const answers = await Promise.all(
        names.map(async (text) => ({ text, ...(await app.ask("POST", `/json?text=${text}`, 4_500)) })),
      )
      expect(answers.map(({ reply }) => reply.status).filter((status) => status !== 200 && status !== 503)).to.be.empty
      for (const { tookMs } of answers) expect(tookMs).to.be.below(2 * ANSWER_MS + 1_500)
      await expectNothingHeld(app)
      // What was on its way to the server arrives late, as packets do.
      app.network.resume()
      const again = await app.ask("POST", "/json?text=again", 2_000)
      expect(again.reply.status).to.equal(200)
      for (const { text, reply } of answers) {
        expect(await timesStored(text), text).to.equal(reply.status === 200 ? 1 : 0)
      }
      expect(await timesStored("again")).to.equal(1)
    })

    it("opens another connection where a connect was never answered", async () => {
      app = await startNetworkApp(database, {
        maker: { poolSize: 1, acquireTimeoutMs: 600, answerTimeoutMs: ANSWER_MS },
        work: storeAnew,
      })
      app.network.cut()
      app.network.silence()
      expect((await app.ask("POST", "/json?text=unheard", 4_000)).reply.status).to.equal(503)
      // The connect of before is never answered; those that come now are.
      app.network.silence("open now")
      await expectNothingHeld(app, 2_000)
      expect((await app.ask("POST", "/json?text=next", 2_000)).reply.status).to.equal(200)
      expect(await timesStored("next")).to.equal(1)
    })
  },
)
