import { expect } from "chai"
import { Container, Token } from "typedi"
import { SessionScopeError, SessionStateError } from "../../src/errors"
import { SessionMaker } from "../../src/session/session-maker"
import { resetContainer, sandbox } from "../../src/testing"
import { type CreatedDatabase, describeOnEach, type TestDatabase, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Counter, httpEntities, Note, Remark } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"

interface Hooks {
  before(): Promise<void>
  /** @param state of the spec that has ended */
  after(state?: string): Promise<void>
}

/** The hooks that `sandbox()` registers, to be called by hand. */
function hooksOf(maker?: Parameters<typeof sandbox>[0]): Hooks {
  const runner = globalThis as { beforeEach?: unknown; afterEach?: unknown }
  const { beforeEach, afterEach } = runner
  const found: ((this: unknown) => Promise<void>)[] = []
  const collect = (hook: (this: unknown) => Promise<void>) => found.push(hook)
  Object.assign(runner, { beforeEach: collect, afterEach: collect })
  try {
    sandbox(maker)
  } finally {
    Object.assign(runner, { beforeEach, afterEach })
  }
  const [before, after] = found
  return {
    before: async () => before?.call({}),
    after: async (state = "passed") => after?.call({ currentTest: { state } }),
  }
}

function appOf(testDatabase: TestDatabase): SessionApp {
  const holder = {} as { app: SessionApp }
  // A mere value is not closed when the container is reset, as this repository does after each spec.
  const register = () => void Container.set({ id: SessionMaker, value: holder.app.maker })
  before(async () => {
    holder.app = await startSessionApp(testDatabase, { maker: { poolSize: 2 } })
    register()
  })
  beforeEach(register)
  after(() => holder.app.stop())
  return new Proxy({} as SessionApp, {
    get: (_target, name) => Reflect.get(holder.app, name),
    set: (_target, name, value) => Reflect.set(holder.app, name, value),
  })
}

describeOnEach("sandbox()", testDatabases, (testDatabase) => {
  const app = appOf(testDatabase)
  const isShared = testDatabase.name !== "SQLite memory"
  const hasDeferred = testDatabase.kind !== "mysql"

  describe("in each spec", () => {
    sandbox()

    const names = ["one", "two"]
    for (const name of names) {
      it(`starts empty, and keeps what requests commit until the end of the spec (${name})`, async () => {
        app.work = async (db) => {
          await db.save(Note, { text: "the same each time" })
          await db.commit()
          return { count: await db.count(Note), inTransaction: db.inTransaction }
        }
        expect((await app.http.post("/json")).json()).to.deep.equal({ count: 1, inTransaction: true })
        expect(await app.maker.run((db) => db.count(Note))).to.equal(1)
        if (isShared) expect(await app.rows("SELECT * FROM note")).to.deep.equal([])
      })
    }

    it("rolls a failed request back, and nothing else", async () => {
      app.work = async (db, ctx) => {
        await db.save(Note, { text: String(ctx.query.text) })
        if (ctx.query.fail) throw new Error("failed")
        return {}
      }
      expect((await app.http.post("/json?text=kept")).status).to.equal(200)
      expect((await app.http.post("/json?text=lost&fail=1")).status).to.equal(500)
      expect((await app.http.post("/json?text=kept")).status).to.equal(409)
      expect((await app.maker.run((db) => db.find(Note))).map(({ text }) => text)).to.deep.equal(["kept"])
    })

    it("keeps transaction() blocks, hooks and a rollback by hand as they are", async () => {
      const calls: string[] = []
      app.work = async (db) => {
        db.afterCommit(() => calls.push("committed"))
        await db.save(Note, { text: "a" })
        const inner = db.transaction(async (block) => {
          await block.save(Note, { text: "b" })
          throw new Error("inner")
        })
        await expect(inner).to.be.rejectedWith("inner")
        await db.commit()
        await db.save(Note, { text: "c" })
        await db.rollback()
        return { texts: (await db.find(Note)).map(({ text }) => text) }
      }
      expect((await app.http.post("/json")).json()).to.deep.equal({ texts: ["a"] })
      expect(calls).to.deep.equal(["committed"])
    })

    it("lets parallel requests take turns", async () => {
      await app.maker.run((db) => db.save(Counter, { id: 1, value: 0 }))
      app.work = async (db) => {
        const { value } = await db.findOneByOrFail(Counter, { id: 1 })
        await new Promise(setImmediate)
        await db.update(Counter, { id: 1 }, { value: value + 1 })
        return { value }
      }
      const replies = await Promise.all(Array.from({ length: 20 }, () => app.http.post("/json")))
      expect(replies.map(({ status }) => status)).to.deep.equal(Array(20).fill(200))
      expect(await app.maker.run((db) => db.findOneBy(Counter, { id: 1 }))).to.include({ value: 20 })
    })

    it("lets a request that waits in the queue be left by its client", async () => {
      const entered = new Deferred()
      const goOn = new Deferred()
      app.work = async (db, ctx) => {
        await db.count(Note)
        if (ctx.query.hold) {
          entered.resolve()
          await goOn.promise
        }
        return {}
      }
      const holding = app.http.get("/json?hold=1")
      await entered.promise
      const waiting = app.http.startRequest("/json")
      while (app.maker.stats().waiting === 0) await new Promise(setImmediate)
      waiting.destroy()
      while (app.maker.stats().waiting > 0) await new Promise(setImmediate)
      goOn.resolve()
      expect((await holding).status).to.equal(200)
      expect((await app.http.get("/json")).status).to.equal(200)
    })

    if (hasDeferred) {
      it("checks deferred constraints at each commit, and they do not stand in the way of the next", async () => {
        app.work = async (db, ctx) => {
          const note = await db.save(Note, { text: String(ctx.query.text) })
          await db.insert(Remark, { noteId: ctx.query.broken ? 4711 : note.id })
          return {}
        }
        const broken = await app.http.post("/json?text=a&broken=1")
        expect([broken.status, broken.text]).to.deep.equal([
          409,
          '{"name":"ConflictError","message":"The request conflicts with what is stored."}',
        ])
        expect((await app.http.post("/json?text=b")).status).to.equal(200)
        expect((await app.http.post("/json?text=c&broken=1")).status).to.equal(409)
        expect((await app.maker.run((db) => db.find(Note))).map(({ text }) => text)).to.deep.equal(["b"])
        expect(await app.maker.run((db) => db.count(Remark))).to.equal(1)
      })

      it("leaves them deferred until then, in later sessions too", async () => {
        for (let round = 0; round < 3; round++) {
          await app.maker.run(async (db) => {
            const id = 1_000 + round
            await db.insert(Remark, { noteId: id })
            await db.query(`INSERT INTO note (id, text) VALUES (${id}, 'note ${id}')`)
          })
        }
        expect(await app.maker.run((db) => db.count(Remark))).to.equal(3)
      })
    }

    it("goes on after a statement that failed", async () => {
      await expect(app.maker.run((db) => db.query("SELECT * FROM nowhere"))).to.be.rejected
      expect(await app.maker.run((db) => db.count(Note))).to.equal(0)
    })
  })

  describe("and what is left over", () => {
    it("leaves the database as it was, and the maker on its own connections", async () => {
      expect(await app.rows("SELECT * FROM note")).to.deep.equal([])
      await app.maker.run((db) => db.save(Note, { text: "real" }))
      expect(await app.rows("SELECT text FROM note")).to.deep.equal([{ text: "real" }])
      await app.maker.run((db) => db.delete(Note, { text: "real" }))
    })

    it("names a session that outlives its spec, closes it, and leaves nothing of it", async () => {
      const hooks = hooksOf()
      await hooks.before()
      const entered = new Deferred()
      const goOn = new Deferred()
      let failure: unknown
      app.work = async (db) => {
        await db.save(Note, { text: "forgotten" })
        entered.resolve()
        await goOn.promise
        await db.save(Note, { text: "late" }).catch((error: unknown) => {
          failure = error
        })
        return {}
      }
      const forgotten = app.http.post("/json")
      await entered.promise
      await expect(hooks.after())
        .to.be.rejectedWith(SessionStateError)
        .and.eventually.have.property("message")
        .that.matches(/^A session outlives its spec: POST \/json.* Await the end of every request/)
      goOn.resolve()
      expect((await forgotten).status).to.be.above(499)
      expect(failure).to.include({ code: "ERR_SESSION_CLOSED" })
      expect(await app.rows("SELECT * FROM note")).to.deep.equal([])
    })

    it("does the same for one that is idle, and says nothing where the spec has failed already", async () => {
      const hooks = hooksOf(app.maker)
      await hooks.before()
      const session = await app.maker.open()
      await expect(hooks.after()).to.be.rejectedWith(SessionStateError, "maker.open()")
      expect(session.closed).to.equal(true)
      await hooks.before()
      const second = await app.maker.open()
      await second.save(Note, { text: "forgotten" })
      await hooks.after("failed")
      expect(second.closed).to.equal(true)
      expect(await app.rows("SELECT * FROM note")).to.deep.equal([])
    })

    it("refuses a session of before the spec that began in it, once it has ended", async () => {
      const session = await app.maker.open()
      const hooks = hooksOf(app.maker)
      await hooks.before()
      await session.count(Note)
      await hooks.after()
      await expect(session.count(Note)).to.be.rejectedWith(SessionStateError, "outlives its spec")
      await session.close()
    })

    it("nests: an inner one is undone alone", async () => {
      const [outer, inner] = [hooksOf(app.maker), hooksOf(app.maker)]
      await outer.before()
      await app.maker.run((db) => db.save(Note, { text: "outer" }))
      await inner.before()
      await app.maker.run((db) => db.save(Note, { text: "inner" }))
      await app.maker.run((db) => db.save(Note, { text: "inner too" }))
      await inner.after()
      expect((await app.maker.run((db) => db.find(Note))).map(({ text }) => text)).to.deep.equal(["outer"])
      await outer.after()
      expect(await app.rows("SELECT * FROM note")).to.deep.equal([])
    })
  })
})

const Named = new Token<SessionMaker>("sandboxed")

describeOnEach("sandbox() and its maker", testDatabases, (testDatabase) => {
  let database: CreatedDatabase
  let maker: SessionMaker

  beforeEach(async () => {
    database = await testDatabase.createDatabase()
    maker = new SessionMaker(database.uri, { entities: httpEntities, synchronize: true, poolSize: 1 })
  })
  afterEach(async () => {
    await maker.close()
    await database.drop()
  })

  it("starts the maker, found under a token, and needs no more than one connection", async () => {
    Container.set(Named, maker)
    const hooks = hooksOf(Named)
    await hooks.before()
    await maker.run((db) => db.save(Note, { text: "a" }))
    await maker.run((db) => db.save(Note, { text: "b" }))
    await hooks.after()
    Container.remove(Named)
    expect(await maker.run((db) => db.count(Note))).to.equal(0)
  })

  it("ends with the maker where that is closed, or reset, in the spec", async () => {
    const hooks = hooksOf(maker)
    await hooks.before()
    await maker.run((db) => db.save(Note, { text: "a" }))
    await maker.reset()
    await hooks.after()
    await hooks.before()
    await maker.close()
    await hooks.after()
  })

  it("ends with resetContainer()", async () => {
    Container.set({ id: SessionMaker, factory: () => maker })
    try {
      const hooks = hooksOf()
      await hooks.before()
      await Container.get(SessionMaker).run((db) => db.save(Note, { text: "a" }))
      await resetContainer()
      await hooks.after()
    } finally {
      Container.remove(SessionMaker)
    }
  })
})

describe("sandbox()", () => {
  it("says what it needs where there are no hooks", () => {
    const runner = globalThis as { beforeEach?: unknown }
    const { beforeEach } = runner
    runner.beforeEach = undefined
    try {
      expect(() => sandbox()).to.throw(SessionScopeError, "beforeEach() and afterEach()")
    } finally {
      runner.beforeEach = beforeEach
    }
  })
})
