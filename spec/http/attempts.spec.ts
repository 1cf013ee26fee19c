import { expect } from "chai"
import type { Context } from "koa"
import { Ctx, Get, JsonController, Post } from "routing-controllers"
import { Service } from "typedi"
import { QueryFailedError } from "typeorm"
import { Session } from "../../src/decorators/session"
import { SessionError } from "../../src/errors"
import { getSession } from "../../src/koa/sessions"
import { currentSession } from "../../src/request/current-session"
import { contextSession } from "../../src/session/context-session"
import type { SessionOptions } from "../../src/session/options"
import { InjectSession } from "../../src/typedi/inject-session"
import { startServiceApp } from "../services/support/service-app"
import { describeOnEach, type TestDatabase, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Note } from "../support/http-entities"
import type { SessionApp, SessionAppOptions } from "../support/session-app"

@Service()
class Charges {
  @InjectSession()
  readonly db!: Session

  charge(text: string): Promise<unknown> {
    return this.db.insert(Note, { text })
  }
}

/** What one call of the action does. */
type Action = (used: { db: Session | undefined; charges: Charges; ctx: Context; attempt: number }) => unknown

let action: Action
let attempts: number

const run = (ctx: Context, charges: Charges, db?: Session) => action({ db, charges, ctx, attempt: ++attempts })

@Service()
@JsonController("/attempts")
class AttemptsController {
  constructor(private readonly charges: Charges) {}

  @Post("/plain")
  plain(@Session() db: Session, @Ctx() ctx: Context): unknown {
    return run(ctx, this.charges, db)
  }

  @Post("/own")
  own(@Session({ retries: 1 }) db: Session, @Ctx() ctx: Context): unknown {
    return run(ctx, this.charges, db)
  }
}

/** Asks for no session by itself. */
@JsonController("/bare")
class BareController {
  @Post("/")
  post(@Ctx() ctx: Context): unknown {
    return run(ctx, undefined as never)
  }

  @Get("/")
  get(@Ctx() ctx: Context): unknown {
    return run(ctx, undefined as never)
  }
}

/** As the database says it when two transactions are in each other's way. */
function conflict({ kind }: TestDatabase): QueryFailedError {
  const code = { sqlite: "SQLITE_BUSY_SNAPSHOT", postgres: "40001", mysql: "ER_LOCK_DEADLOCK" }[kind]
  return new QueryFailedError("UPDATE account", [], Object.assign(new Error("conflict"), { code }))
}

/** Each says how often actions are run again: one time. */
const retryPlaces: Record<string, { path: string; sessions?: SessionOptions; maker?: SessionOptions }> = {
  "sessions({ retries })": { path: "/attempts/plain", sessions: { retries: 1 } },
  "@Session({ retries })": { path: "/attempts/own" },
  "the maker's retries": { path: "/attempts/plain", maker: { retries: 1 } },
}

interface Variables {
  readonly ctx: Context
  readonly charges: Charges
}

/** The ways in which code that an action left behind asks for a session. */
const branches: Record<string, (variables: Variables) => Promise<Session> | Session> = {
  "currentSession()": () => currentSession(),
  "getSession(ctx)": ({ ctx }) => getSession(ctx),
  "getSession(ctx) with other options": ({ ctx }) => getSession(ctx, { commit: "before-response" }),
  "an @InjectSession() service": ({ charges }) => charges.db,
}

describeOnEach("code that an attempt of an action left behind", testDatabases, (database) => {
  let app: SessionApp
  beforeEach(() => {
    attempts = 0
  })
  afterEach(() => app.stop())

  async function start(options: SessionAppOptions): Promise<void> {
    app = await startServiceApp(database, { controllers: [AttemptsController, BareController], ...options })
  }

  const texts = async () => (await app.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text)

  async function expectRefused(branch: Promise<unknown>): Promise<void> {
    await expect(branch).to.be.rejectedWith(SessionError)
  }

  for (const ambient of [true, false]) {
    describe(`${ambient ? "with" : "without"} ambient: true`, () => {
      for (const [place, { path, sessions, maker }] of Object.entries(retryPlaces)) {
        for (const [name, sessionOf] of Object.entries(branches)) {
          it(`gets neither the session of the next attempt nor a new one through ${name} (${place})`, async () => {
            await start({ sessions: { ambient, ...sessions }, ...(maker && { maker }) })
            const second = new Deferred()
            let branch: Promise<unknown> = Promise.resolve()
            action = async ({ db, ctx, charges, attempt }) => {
              await db?.insert(Note, { text: `attempt ${attempt}` })
              if (attempt === 1) {
                branch = second.promise.then(async () => {
                  await (await sessionOf({ ctx, charges })).insert(Note, { text: "of the first attempt" })
                })
                branch.catch(() => undefined)
                throw conflict(database)
              }
              second.resolve()
              await Promise.allSettled([branch])
              return { attempt, seen: await db?.count(Note) }
            }
            const reply = await app.http.post(path)
            await app.settled()
            expect(reply.status).to.equal(200)
            expect(reply.json()).to.deep.equal({ attempt: 2, seen: 1 })
            await expectRefused(branch)
            expect(await texts()).to.deep.equal(["attempt 2"])
          })
        }
      }

      for (const isBare of [false, true]) {
        const whose = isBare ? "an action that had asked for no session" : "an action"
        for (const [name, sessionOf] of Object.entries(branches)) {
          if (isBare && name.startsWith("an @Inject")) continue
          it(`of ${whose} gets none through ${name} where error middleware answers 200`, async () => {
            const failed = new Deferred()
            const left: Promise<unknown>[] = []
            await start({
              sessions: { ambient },
              defaultErrorHandler: false,
              extend: (koa) =>
                void koa.middleware.splice(1, 0, async (ctx, next) => {
                  try {
                    await next()
                  } catch {
                    failed.resolve()
                    await Promise.allSettled(left)
                    ctx.status = 200
                    ctx.body = { answered: "by middleware" }
                  }
                }),
            })
            action = async ({ db, ctx, charges }) => {
              await db?.insert(Note, { text: "of the action" })
              const ask = async () => sessionOf({ ctx, charges })
              left.push(
                failed.promise.then(async () => (await ask()).find(Note)),
                failed.promise.then(async () => (await ask()).insert(Note, { text: "late" })),
                failed.promise.then(async () => (await ask()).commit()),
              )
              for (const branch of left) branch.catch(() => undefined)
              throw new Error("the action fails")
            }
            const reply = await app.http.post(isBare ? "/bare" : "/attempts/plain")
            await app.settled()
            expect(reply.status).to.equal(200)
            expect(reply.json()).to.deep.equal({ answered: "by middleware" })
            for (const branch of left) await expectRefused(branch)
            expect(await texts()).to.deep.equal([])
            expect(app.maker.stats()).to.include({ open: 0, committed: 0 })
          })
        }
      }
    })
  }

  it("may keep what it writes with maker.run()", async () => {
    const failed = new Deferred()
    let log: Promise<unknown> = Promise.resolve()
    await start({ sessions: { ambient: true } })
    action = async ({ db }) => {
      await db?.insert(Note, { text: "of the action" })
      log = failed.promise.then(() => app.maker.run((own) => own.insert(Note, { text: "log of failures" })))
      throw new Error("the action fails")
    }
    expect((await app.http.post("/attempts/plain")).status).to.equal(500)
    await app.settled()
    failed.resolve()
    await log
    expect(await texts()).to.deep.equal(["log of failures"])
  })

  it("does not keep other requests from theirs", async () => {
    await start({ sessions: { ambient: true } })
    action = async ({ db, attempt }) => {
      await db?.insert(Note, { text: `request ${attempt}` })
      if (attempt % 2 === 1) throw new Error("the action fails")
      await currentSession().insert(Note, { text: `current ${attempt}` })
      return {}
    }
    const replies = []
    for (let request = 0; request < 4; request++) replies.push((await app.http.post("/attempts/plain")).status)
    await app.settled()
    expect(replies).to.deep.equal([500, 200, 500, 200])
    expect(await texts()).to.deep.equal(["request 2", "current 2", "request 4", "current 4"])
  })
})

describeOnEach("retries of an action that committed something", testDatabases, (database) => {
  let app: SessionApp
  beforeEach(() => {
    attempts = 0
  })
  afterEach(() => app.stop())

  const commits: Record<string, () => Promise<unknown>> = {
    "maker.run()": () => app.maker.run((own) => own.insert(Note, { text: "charged" })),
    "maker.open() and commit()": async () => {
      await using own = await app.maker.open()
      await own.insert(Note, { text: "charged" })
      await own.commit()
    },
    "contextSession()": async () =>
      contextSession(await app.maker.dataSource(), (own) => own.insert(Note, { text: "charged" })),
    "getSession(ctx, other options) and commit()": async () => undefined,
  }

  for (const ambient of [true, false]) {
    for (const [place, { path, sessions, maker }] of Object.entries(retryPlaces)) {
      for (const [name, commit] of Object.entries(commits)) {
        it(`do not run it again after ${name} (${place}, ambient: ${ambient})`, async () => {
          app = await startServiceApp(database, {
            controllers: [AttemptsController],
            sessions: { ambient, ...sessions },
            ...(maker && { maker }),
          })
          action = async ({ ctx, attempt }) => {
            await commit()
            if (name.startsWith("getSession")) {
              const own = await getSession(ctx, { commit: "before-response" })
              await own.insert(Note, { text: "charged" })
              await own.commit()
            }
            if (attempt === 1) throw conflict(database)
            return {}
          }
          const reply = await app.http.post(path)
          await app.settled()
          expect(reply.status).to.equal(503)
          expect(attempts).to.equal(1)
          expect(await app.rows("SELECT text FROM note")).to.deep.equal([{ text: "charged" }])
        })
      }
    }
  }

  const harmless: Record<string, () => Promise<unknown>> = {
    "only read": () => app.maker.run((own) => own.find(Note)),
    "was rolled back": async () => {
      const inner = app.maker.run(async (own) => {
        await own.insert(Note, { text: "lost" })
        throw new Error("undo")
      })
      await expect(inner).to.be.rejectedWith("undo")
    },
  }
  for (const [what, work] of Object.entries(harmless)) {
    it(`run it again where the inner run() ${what}`, async () => {
      app = await startServiceApp(database, { controllers: [AttemptsController] })
      action = async ({ attempt }) => {
        await work()
        if (attempt === 1) throw conflict(database)
        return { attempt }
      }
      const reply = await app.http.post("/attempts/own")
      await app.settled()
      expect(reply.status).to.equal(200)
      expect(reply.json()).to.deep.equal({ attempt: 2 })
      expect(await app.rows("SELECT text FROM note")).to.deep.equal([])
    })
  }
})
