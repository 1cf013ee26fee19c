import { once } from "node:events"
import { createServer } from "node:net"
import { expect } from "chai"
import Koa, { type Context } from "koa"
import {
  type Action,
  Get,
  getMetadataArgsStorage,
  type InterceptorInterface,
  JsonController,
  type KoaMiddlewareInterface,
  Middleware,
  Post,
  UseAfter,
  UseBefore,
  UseInterceptor,
  useContainer,
} from "routing-controllers"
import { Container, Inject, Service, Token } from "typedi"
import { Session } from "../../src/decorators/session"
import { SessionOptionsError, SessionScopeError, SettingsError } from "../../src/errors"
import { getSession, sessions } from "../../src/koa/sessions"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { SessionMaker } from "../../src/session/session-maker"
import { resetContainer } from "../../src/testing"
import { InjectSession } from "../../src/typedi/inject-session"
import { RequestContainer } from "../../src/typedi/request-container"
import { startServiceApp } from "../services/support/service-app"
import { describeOnEach, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { type Listening, listen } from "../support/http"
import { httpEntities, Note } from "../support/http-entities"
import { collectKoaErrors, type KoaErrors } from "../support/koa-errors"
import type { SessionApp } from "../support/session-app"

@Service()
class One {
  @InjectSession()
  readonly db!: Session

  @InjectSession({ readOnly: true })
  readonly reading!: Session
}

@Service()
class Two {
  constructor(
    readonly below: One,
    @InjectSession() readonly db: Session,
  ) {}
}

@Service()
class Three {
  @Inject()
  readonly below!: Two
  constructor(@InjectSession() readonly db: Session) {}
}

@Service()
class Four {
  constructor(
    @InjectSession() readonly db: Session,
    readonly below: Three,
  ) {}
}

@Service()
class Five {
  constructor(readonly below: Four) {}

  get sessions(): Session[] {
    const four = this.below
    return [four.db, four.below.db, four.below.below.db, four.below.below.below.db]
  }
}

@Service()
class Stamping implements InterceptorInterface {
  constructor(@InjectSession() readonly db: Session) {}
  async intercept(_action: Action, result: object): Promise<object> {
    await this.db.save(Note, { text: "by the interceptor" })
    return { ...result, inInterceptor: this.db.inTransaction }
  }
}

@JsonController("/deep")
@Service()
class DeepController {
  constructor(
    readonly five: Five,
    @InjectSession() readonly db: Session,
  ) {}

  @Post("/without")
  async without(): Promise<object> {
    for (const [index, session] of this.five.sessions.entries()) await session.save(Note, { text: `by ${index}` })
    return { areSame: this.five.sessions.every((one) => one === this.db) }
  }

  @Post("/with")
  async with(@Session() db: Session): Promise<object> {
    return { areSame: this.five.sessions.every((one) => one === db), isController: this.db === db }
  }

  @Post("/fail")
  async fail(): Promise<object> {
    for (const session of this.five.sessions) await session.save(Note, { text: String(Math.random()) })
    throw new Error("after four inserts")
  }

  @Post("/intercepted")
  @UseInterceptor(Stamping)
  async intercepted(): Promise<object> {
    return {}
  }

  @Get("/reading")
  reading(): object {
    const { db, reading } = this.five.below.below.below.below
    return { isOther: db !== reading }
  }
}

describeOnEach("@InjectSession()", testDatabases, (testDatabase) => {
  let app: SessionApp
  beforeEach(async () => {
    app = await startServiceApp(testDatabase, {
      controllers: [DeepController],
    })
  })
  afterEach(() => app.stop())

  it("gives services, five deep, and the controller one session, which is committed once", async () => {
    expect((await app.http.post("/deep/without")).json()).to.deep.equal({ areSame: true })
    expect(await app.rows("SELECT text FROM note ORDER BY text")).to.have.length(4)
    await app.settled()
    expect(app.maker.stats()).to.include({ committed: 1, rolledBack: 0 })
  })

  it("gives the one that @Session() gives", async () => {
    expect((await app.http.post("/deep/with")).json()).to.deep.equal({ areSame: true, isController: true })
    expect(app.maker.stats()).to.include({ committed: 0, rolledBack: 0 })
  })

  it("gives another one for other options", async () => {
    expect((await app.http.get("/deep/reading")).json()).to.deep.equal({ isOther: true })
  })

  it("is rolled back with all that was written through it, where the action throws", async () => {
    expect((await app.http.post("/deep/fail")).status).to.equal(500)
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([])
  })

  it("gives interceptors the request's session, whose work is committed with it", async () => {
    expect((await app.http.post("/deep/intercepted")).json()).to.deep.equal({ inInterceptor: true })
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([{ text: "by the interceptor" }])
  })
})

const Elsewhere = new Token<SessionMaker>("elsewhere")

@Service()
class ElsewhereService {
  constructor(@InjectSession({ maker: Elsewhere }) readonly db: Session) {}
}

@JsonController("/elsewhere")
@Service()
class ElsewhereController {
  constructor(readonly service: ElsewhereService) {}

  @Get("/unused")
  unused(): object {
    return { closed: this.service.db.closed }
  }

  @Get("/used")
  used(): Promise<unknown> {
    return this.service.db.count(Note)
  }
}

@Service()
class Calculator {
  add(one: number, other: number): number {
    return one + other
  }
}

@JsonController("/sums")
@Service()
class SumController {
  constructor(readonly calculator: Calculator) {}

  @Get("/")
  get(): object {
    return { sum: this.calculator.add(1, 2) }
  }
}

describe("@InjectSession() and a database that is not there", () => {
  let app: Koa
  let http: Listening
  let errors: KoaErrors

  beforeEach(async () => {
    app = new Koa()
    errors = collectKoaErrors(app)
    useContainer(new RequestContainer())
  })
  afterEach(async () => {
    useContainer(undefined as never)
    await http?.close()
    Container.remove(Elsewhere)
    await resetContainer()
  })

  async function serve(maker: SessionMaker, before?: (ctx: Context) => Promise<void>): Promise<void> {
    Container.set({ id: SessionMaker, value: new SessionMaker("sqlite://", { entities: [] }) })
    Container.set(Elsewhere, maker)
    if (before) {
      app.use(sessions())
      app.use(async (ctx, next) => {
        await before(ctx)
        await next()
      })
    }
    useKoaServer(app, { controllers: [ElsewhereController, SumController] })
    http = await listen(app)
  }

  it("connects neither at start-up nor for an action that sends no statement", async () => {
    let connections = 0
    const server = createServer(() => connections++).listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address() as { port: number }
    const maker = new SessionMaker(`postgres://nobody@127.0.0.1:${port}/nowhere`, { entities: httpEntities })
    try {
      await serve(maker)
      expect((await http.get("/elsewhere/unused")).json()).to.deep.equal({ closed: false })
      expect(connections).to.equal(0)
    } finally {
      server.close()
      await maker.close()
    }
  })

  it("answers 503 where a statement is sent, and other actions as ever", async () => {
    const server = createServer().listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address() as { port: number }
    server.close()
    const maker = new SessionMaker(`postgres://nobody@127.0.0.1:${port}/nowhere`, { entities: httpEntities })
    await serve(maker)
    expect((await http.get("/elsewhere/used")).status).to.equal(503)
    expect((await http.get("/sums")).json()).to.deep.equal({ sum: 3 })
    await maker.close()
  })

  it("lets actions that need no session go on while the maker cannot be prepared", async () => {
    const configured = new Deferred<string>()
    const maker = new SessionMaker(() => configured.promise, { entities: httpEntities })
    await serve(maker)
    const waiting = http.get("/elsewhere/unused")
    expect((await http.get("/sums")).json()).to.deep.equal({ sum: 3 })
    configured.resolve("sqlite://")
    expect((await waiting).json()).to.deep.equal({ closed: false })
    await maker.close()
  })

  it("gives the session that middleware has asked for, and waited for, while the maker was not prepared", async () => {
    const maker = new SessionMaker("sqlite://", { entities: httpEntities })
    await serve(maker, async (ctx) => void (await getSession(ctx, { maker: Elsewhere })))
    expect((await http.get("/elsewhere/unused")).json()).to.deep.equal({ closed: false })
    expect(errors.errors()).to.deep.equal([])
    await maker.close()
  })

  it("answers 500 and names the variable to the server while the settings are missing, until they are there", async () => {
    delete process.env.DATABASE_URI
    const maker = new SessionMaker(undefined, { entities: httpEntities })
    await serve(maker)
    expect((await http.get("/elsewhere/unused")).status).to.equal(500)
    expect(errors.errors()[0]).to.be.instanceOf(SettingsError).with.property("message").that.includes("DATABASE_URI")
    expect((await http.get("/sums")).json()).to.deep.equal({ sum: 3 })
    process.env.DATABASE_URI = "sqlite://"
    expect((await http.get("/elsewhere/unused")).json()).to.deep.equal({ closed: false })
    await maker.close()
  })
})

describe("@InjectSession() where it cannot be one request's session", () => {
  const undo: (() => void)[] = []
  afterEach(() => {
    for (const one of undo.splice(0)) one()
    useContainer(undefined as never)
  })

  /** What a decorator registered would fail in every later spec. */
  function forget(...classes: (new (...given: never[]) => unknown)[]): void {
    const storage = getMetadataArgsStorage() as unknown as Record<string, { target?: unknown; middleware?: unknown }[]>
    undo.push(() => {
      for (const one of classes) Container.remove(one as never)
      for (const list of Object.values(storage)) {
        if (!Array.isArray(list)) continue
        const kept = list.filter(
          ({ target, middleware }) => !classes.some((one) => one === target || one === middleware),
        )
        list.splice(0, list.length, ...kept)
      }
    })
  }

  it("refuses the server where a global service asks for one, and names the class", () => {
    @Service({ global: true })
    class Audit {
      constructor(@InjectSession() readonly db: Session) {}
    }
    forget(Audit)
    expect(() => useKoaServer(new Koa(), { controllers: [] }))
      .to.throw(SessionOptionsError)
      .with.property("message")
      .that.matches(/^Audit is a \{ global: true \} service with an @InjectSession\(\): .*currentSession\(\)/)
  })

  it("refuses the server where a global service is made of one that asks, and names the way", () => {
    @Service()
    class Rows {
      @InjectSession()
      readonly db!: Session
    }
    @Service()
    class Reports {
      constructor(readonly rows: Rows) {}
    }
    @Service({ global: true })
    class Schedule {
      @Inject()
      readonly reports!: Reports
    }
    forget(Rows, Reports, Schedule)
    expect(() => useKoaServer(new Koa(), { controllers: [] })).to.throw(
      SessionOptionsError,
      "Schedule is a { global: true } service with an @InjectSession() (by way of Reports, Rows)",
    )
  })

  it("never captures one in a global service that was made later", () => {
    @Service({ global: true })
    class Late {
      constructor(@InjectSession() readonly db: Session) {}
    }
    forget(Late)
    const ctx = { res: {} } as Context
    expect(() => new RequestContainer().get(Late, { context: ctx } as Action)).to.throw(
      SessionScopeError,
      "@InjectSession() in Late: the class was built outside of a request",
    )
  })

  it("refuses a @Middleware() class at start-up, and says what to write instead", () => {
    @Middleware({ type: "before" })
    @Service()
    class Counting implements KoaMiddlewareInterface {
      constructor(@InjectSession() readonly db: Session) {}
      use(_ctx: Context, next: () => Promise<unknown>): Promise<unknown> {
        return next()
      }
    }
    forget(Counting)
    useContainer(new RequestContainer())
    expect(() => useKoaServer(new Koa(), { controllers: [], middlewares: [Counting] }))
      .to.throw(SessionScopeError)
      .with.property("message")
      .that.matches(/^@InjectSession\(\) in Counting: .*await getSession\(ctx\) in use\(\) instead/)
  })

  for (const [name, Use] of [
    ["@UseBefore()", UseBefore],
    ["@UseAfter()", UseAfter],
  ] as const) {
    it(`refuses a class of ${name} at start-up, and says what to write instead`, () => {
      @Service()
      class Checking implements KoaMiddlewareInterface {
        constructor(@InjectSession() readonly db: Session) {}
        use(_ctx: Context, next: () => Promise<unknown>): Promise<unknown> {
          return next()
        }
      }
      @JsonController("/checked")
      @Service()
      class Checked {
        @Get("/")
        @Use(Checking)
        get(): string {
          return "never"
        }
      }
      forget(Checking, Checked)
      useContainer(new RequestContainer())
      expect(() => useKoaServer(new Koa(), { controllers: [Checked] }))
        .to.throw(SessionOptionsError)
        .with.property("message")
        .that.matches(/^Checking is a middleware class, .*Take await getSession\(ctx\) in its use\(\) instead/)
    })
  }

  it("refuses to build it in typedi's global container", () => {
    expect(() => Container.get(One)).to.throw(SessionScopeError, "useContainer(new RequestContainer())")
  })

  it("says what is missing where routing-controllers is served without useKoaServer()", () => {
    const ctx = { res: {} } as Context
    expect(() => new RequestContainer().get(One, { context: ctx } as Action)).to.throw(
      SessionScopeError,
      "Use useKoaServer() or createKoaServer() of routing-controllers-typeorm",
    )
  })

  it("refuses parameters of methods, static properties and unknown options at decoration", () => {
    class Target {
      static shared: Session
      method(_db: Session): void {}
    }
    const decorate = InjectSession() as (target: object, property?: string, index?: number) => void
    expect(() => decorate(Target.prototype, "method", 0)).to.throw(SessionOptionsError, "there is @Session()")
    expect(() => decorate(Target, "shared")).to.throw(SessionOptionsError, "a constructor parameter or a property")
    expect(() => InjectSession({ readonly: true } as never)(Target, undefined as never, 0)).to.throw(
      SessionOptionsError,
      '@InjectSession() in Target: option "readonly" is unknown',
    )
  })
})
