import { expect } from "chai"
import { getSession } from "../../src/koa/sessions"
import { describeOnEach } from "../support/databases"
import { Counter } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

const postgres = httpDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("retries", postgres, (database) => {
  let server: SessionApp
  afterEach(() => server.stop())

  async function start(options: Parameters<typeof startSessionApp>[1] = {}): Promise<void> {
    server = await startSessionApp(database, {
      sessions: { isolation: "SERIALIZABLE", retries: 2 },
      ...options,
    })
    await server.maker.run((db) =>
      db.insert(Counter, [
        { id: 1, value: 0 },
        { id: 2, value: 0 },
      ]),
    )
    server.log.clear()
  }

  /** Fails at the UPDATE for the first `times`: another transaction has changed the row since the read. */
  const conflictAtStatement = (times: number): Work => {
    let attempts = 0
    return async (db) => {
      const { value } = await db.findOneByOrFail(Counter, { id: 1 })
      if (attempts++ < times) await server.rows("UPDATE counter SET value = value + 10 WHERE id = 1")
      await db.update(Counter, { id: 1 }, { value: value + 1 })
      return { attempts }
    }
  }

  /** Write skew with another SERIALIZABLE transaction, which the database finds at COMMIT. */
  const conflictAtCommit = (times: number): Work => {
    let attempts = 0
    return async (db) => {
      const { value } = await db.findOneByOrFail(Counter, { id: 1 })
      if (attempts++ < times) {
        await server.rows("BEGIN ISOLATION LEVEL SERIALIZABLE")
        await server.rows("SELECT * FROM counter WHERE id = 2")
        await server.rows("UPDATE counter SET value = value + 10 WHERE id = 1")
      }
      await db.update(Counter, { id: 2 }, { value: value + 1 })
      if (attempts <= times) await server.rows("COMMIT")
      return { attempts }
    }
  }

  for (const defaultErrorHandler of [true, false]) {
    const mode = `default error handler ${defaultErrorHandler ? "on" : "off"}`

    it(`runs the action again after a serialization failure of a statement (${mode})`, async () => {
      await start({ defaultErrorHandler })
      server.work = conflictAtStatement(2)
      const reply = await server.http.post("/json")
      await server.settled()
      expect(reply.status).to.equal(200)
      expect(reply.json()).to.deep.equal({ attempts: 3 })
      expect(await server.rows("SELECT value FROM counter WHERE id = 1")).to.deep.equal([{ value: 21 }])
      expect(server.log.verbs().filter((verb) => verb === "BEGIN")).to.have.length(3)
    })

    it(`runs the action again after a serialization failure of its COMMIT (${mode})`, async () => {
      await start({ defaultErrorHandler })
      server.work = conflictAtCommit(2)
      const reply = await server.http.post("/json")
      await server.settled()
      expect(reply.status).to.equal(200)
      expect(reply.json()).to.deep.equal({ attempts: 3 })
      expect(await server.rows("SELECT value FROM counter ORDER BY id")).to.deep.equal([{ value: 20 }, { value: 21 }])
    })

    it(`answers 503 with Retry-After once they are used up (${mode})`, async () => {
      await start({ defaultErrorHandler })
      server.work = conflictAtStatement(3)
      const reply = await server.http.post("/json")
      await server.settled()
      expect(reply.status).to.equal(503)
      expect(reply.headers["retry-after"]).to.equal("1")
      expect(await server.rows("SELECT value FROM counter WHERE id = 1")).to.deep.equal([{ value: 30 }])
    })
  }

  it("runs an action again that takes its session with getSession()", async () => {
    await start({ sessions: {} })
    const work = conflictAtStatement(1)
    server.work = async (_db, ctx) => work(await getSession(ctx, { isolation: "SERIALIZABLE", retries: 1 }), ctx)
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
  })

  it("does not run it again where the action has committed already", async () => {
    await start()
    const work = conflictAtStatement(1)
    server.work = async (db, ctx) => {
      await db.update(Counter, { id: 2 }, { value: 5 })
      await db.commit()
      return work(db, ctx)
    }
    expect((await server.http.post("/json")).status).to.equal(503)
    await server.settled()
    expect(await server.rows("SELECT value FROM counter ORDER BY id")).to.deep.equal([{ value: 10 }, { value: 5 }])
  })

  it("does not run it again where middleware before it wrote through the session", async () => {
    await start({
      extend: (app) => {
        app.middleware.splice(1, 0, async (ctx, next) => {
          await (await getSession(ctx)).update(Counter, { id: 2 }, { value: 7 })
          await next()
        })
      },
    })
    server.work = conflictAtStatement(1)
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.status).to.equal(503)
    expect(await server.rows("SELECT value FROM counter ORDER BY id")).to.deep.equal([{ value: 10 }, { value: 0 }])
  })

  it("does not run it again where middleware after it used the session", async () => {
    const committed: string[] = []
    await start({
      extend: (app) => {
        app.use(async (ctx) => {
          const db = await getSession(ctx)
          db.afterCommit(() => committed.push(ctx.path))
        })
      },
    })
    server.work = conflictAtCommit(1)
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.status).to.equal(503)
    expect(committed).to.deep.equal([])
  })

  it("answers 503 for a serialization failure in middleware before the action", async () => {
    const before = conflictAtStatement(1)
    await start({
      extend: (app) => {
        app.use(async (ctx) => {
          ctx.body = await before(await getSession(ctx), ctx)
        })
      },
    })
    const reply = await server.http.post("/elsewhere")
    await server.settled()
    expect(reply.status).to.equal(503)
  })
})
