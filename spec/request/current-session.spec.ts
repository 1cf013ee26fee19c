import { expect } from "chai"
import type { Context } from "koa"
import { Container, Token } from "typedi"
import { type EntitySubscriberInterface, EventSubscriber, type InsertEvent } from "typeorm"
import type { Session } from "../../src/decorators/session"
import { SessionClosedError, SessionOptionsError, SessionScopeError, SessionStateError } from "../../src/errors"
import { getSession } from "../../src/koa/sessions"
import { currentSession, tryCurrentSession } from "../../src/request/current-session"
import { SessionMaker } from "../../src/session/session-maker"
import { describeOnEach, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Counter, httpEntities, Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"

/** Writes through the current session, and no other is handed to it. */
@EventSubscriber()
class AuditSubscriber implements EntitySubscriberInterface<Note> {
  listenTo(): typeof Note {
    return Note
  }

  async afterInsert({ entity, manager }: InsertEvent<Note>): Promise<void> {
    const db = currentSession()
    await db.save(Counter, { id: entity.id, value: (await db.countBy(Note, { id: entity.id })) + 41 })
    seen.push(manager.queryRunner === db.queryRunner)
  }
}

const seen: boolean[] = []

/** Far from the controller, with nothing handed to it. */
async function writeNote(text: string): Promise<Session> {
  await new Promise(setImmediate)
  const db = currentSession()
  await db.save(Note, { text })
  return db
}

describeOnEach("currentSession() in a request with ambient: true", testDatabases, (testDatabase) => {
  let app: SessionApp
  beforeEach(async () => {
    app = await startSessionApp(testDatabase, {
      sessions: { ambient: true },
      maker: { subscribers: [AuditSubscriber] },
    })
    seen.length = 0
  })
  afterEach(() => app.stop())

  it("is the session of @Session() in functions of any depth, and is committed with it", async () => {
    app.work = async (db) => ({ same: (await writeNote("deep")) === db })
    expect((await app.http.post("/json")).json()).to.deep.equal({ same: true })
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([{ text: "deep" }])
    expect(app.maker.stats().committed).to.equal(1)
  })

  it("is rolled back with the action", async () => {
    app.work = async () => {
      await writeNote("lost")
      throw new Error("after it")
    }
    expect((await app.http.post("/json")).status).to.equal(500)
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([])
  })

  it("is the statement's own session in a TypeORM subscriber", async () => {
    app.work = async (db) => {
      const { id } = await db.save(Note, { text: "with audit" })
      return db.findOneBy(Counter, { id })
    }
    expect((await app.http.post("/json")).json()).to.include({ value: 42 })
    expect(seen).to.deep.equal([true])
  })

  it("registers hooks that run with the request's outcome", async () => {
    const calls: string[] = []
    app.work = async (_db, ctx) => {
      currentSession().afterCommit(() => calls.push("committed"))
      currentSession().afterRollback(() => calls.push("rolled back"))
      await writeNote("x")
      ctx.status = ctx.query.fail ? 422 : 200
      return {}
    }
    await app.http.post("/json")
    expect(calls).to.deep.equal(["committed"])
    await app.http.post("/json?fail=1")
    expect(calls).to.deep.equal(["committed", "rolled back"])
  })
})

const sqlite = testDatabases.find(({ name }) => name === "SQLite file")
const Second = new Token<SessionMaker>("second maker")

describe("currentSession()", () => {
  let app: SessionApp
  let second: SessionMaker
  let plain: (ctx: Context) => Promise<void>
  beforeEach(async () => {
    if (!sqlite) throw new Error("SQLite is not among the databases.")
    plain = async () => undefined
    app = await startSessionApp(sqlite, {
      sessions: { ambient: true },
      extend: (koa) => {
        koa.use(async (ctx, next) => (ctx.path === "/plain" ? plain(ctx) : next()))
      },
    })
    second = new SessionMaker("sqlite://", { entities: httpEntities, synchronize: true })
    Container.set(Second, second)
  })
  afterEach(async () => {
    await app.stop()
    await second.close()
    Container.remove(Second)
  })

  it("gives each of 50 parallel requests its own", async () => {
    const all = new Deferred()
    let came = 0
    app.work = async (db) => {
      if (++came === 50) all.resolve()
      await all.promise
      await new Promise(setImmediate)
      return { same: currentSession() === db }
    }
    const replies = await Promise.all(Array.from({ length: 50 }, () => app.http.get("/json")))
    expect(replies.filter((reply) => reply.json<{ same: boolean }>().same)).to.have.length(50)
  })

  it("opens a session where the request has none, and that of getSession() in middleware is the same", async () => {
    plain = async (ctx) => {
      const own = currentSession()
      ctx.body = { same: own === (await getSession(ctx)), count: await own.count(Note) }
    }
    expect((await app.http.get("/plain")).json()).to.deep.equal({ same: true, count: 0 })
  })

  it("gives a session with the options that are asked for, beside the one in use", async () => {
    app.work = async (db) => {
      const reading = currentSession({ readOnly: true })
      return {
        other: reading !== db,
        again: currentSession({ readOnly: true }) === reading,
        plain: currentSession() === db,
      }
    }
    expect((await app.http.get("/json")).json()).to.deep.equal({ other: true, again: true, plain: true })
  })

  it("gives the session of another maker, once that is prepared", async () => {
    app.work = async () => {
      try {
        return { count: await currentSession({ maker: Second }).count(Note) }
      } catch (error) {
        return { error: (error as Error).name, message: (error as Error).message }
      }
    }
    expect((await app.http.get("/json")).json()).to.deep.include({ error: SessionStateError.name })
    await second.prepare()
    expect((await app.http.get("/json")).json()).to.deep.equal({ count: 0 })
  })

  it("refuses outside of a request and of run(), and says where it works", async () => {
    expect(() => currentSession()).to.throw(SessionScopeError, "sessions({ ambient: true })")
    expect(tryCurrentSession()).to.equal(undefined)
  })

  it("refuses an option that is out of range", () => {
    expect(() => currentSession({ commit: "never" as never })).to.throw(SessionOptionsError, "currentSession()")
  })

  it("is closed for code that goes on after its request has ended, also where nobody else is served", async () => {
    const ended = new Deferred()
    const late = new Deferred<unknown>()
    app.work = async (db) => {
      await db.count(Note)
      void ended.promise.then(() => writeNote("late")).then(late.resolve, late.resolve)
      return {}
    }
    expect((await app.http.get("/json")).status).to.equal(200)
    await app.settled()
    ended.resolve()
    expect(await late.promise).to.be.instanceOf(SessionClosedError)
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([])
  })

  it("is refused after the end where the request used no session before, and nothing stays open", async () => {
    const ended = new Deferred()
    const late = new Deferred<unknown>()
    plain = async (ctx) => {
      void ended.promise.then(() => writeNote("late")).then(late.resolve, late.resolve)
      ctx.body = "ok"
    }
    expect((await app.http.get("/plain")).status).to.equal(200)
    ended.resolve()
    expect(await late.promise).to.be.instanceOf(SessionClosedError)
    await app.settled()
  })
})

describe("currentSession() in a request without ambient", () => {
  it("is refused", async () => {
    if (!sqlite) throw new Error("SQLite is not among the databases.")
    const app = await startSessionApp(sqlite, { work: () => ({ found: tryCurrentSession() !== undefined }) })
    try {
      expect((await app.http.get("/json")).json()).to.deep.equal({ found: false })
    } finally {
      await app.stop()
    }
  })
})
