import { once } from "node:events"
import { expect } from "chai"
import type { Context } from "koa"
import {
  Action,
  Ctx,
  Get,
  type InterceptorInterface,
  JsonController,
  type KoaMiddlewareInterface,
  Post,
  UseBefore,
  UseInterceptor,
} from "routing-controllers"
import { Container, Inject, InjectMany, Service, Token } from "typedi"
import { Session } from "../../src/decorators/session"
import { SessionMaker } from "../../src/session/session-maker"
import { InjectSession } from "../../src/typedi/inject-session"
import { startServiceApp } from "../services/support/service-app"
import { testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Counter, Note } from "../support/http-entities"
import type { SessionApp } from "../support/session-app"
import { sqliteMemory } from "../support/sqlite-databases"

let made = 0

@Service()
class Leaf {
  readonly number = ++made
}

@Service()
class Branch {
  constructor(readonly leaf: Leaf) {}
}

@Service({ global: true })
class Tree {
  readonly number = ++made
  constructor(readonly leaf: Leaf) {}
}

@Service({ transient: true })
class Passing {
  readonly number = ++made
}

@Service()
class Chicken {
  readonly number = ++made
  @Inject(() => Egg)
  egg!: unknown
}

@Service()
class Egg {
  @Inject(() => Chicken)
  chicken!: Chicken
}

const Greeting = new Token<string>("greeting")
const Other = new Token<SessionMaker>("other maker")
const Part = new Token<{ number: number }>("part")

@Service({ id: Part, multiple: true })
class FirstPart {
  readonly number = ++made
}

@Service({ id: Part, multiple: true })
class SecondPart {
  readonly number = ++made
  constructor(readonly leaf: Leaf) {}
}

@Service()
class Mailer {
  readonly kind: string = "real"
}

const log: string[] = []
let destroying: Deferred | undefined

@Service()
class Disposable {
  constructor(@InjectSession() readonly db: Session) {}
  async destroy(): Promise<void> {
    log.push(`inner, session ${this.db.closed ? "closed" : "open"}`)
    await destroying?.promise
    log.push("inner done")
  }
}

@Service()
class Outer {
  constructor(readonly inner: Disposable) {}
  destroy(): void {
    log.push("outer")
    throw new Error("cannot be destroyed")
  }
}

@Service()
class Shouting implements InterceptorInterface {
  constructor(readonly leaf: Leaf) {}
  intercept(_action: Action, result: Record<string, unknown>): object {
    return { ...result, interceptor: this.leaf.number }
  }
}

@Service()
class Before implements KoaMiddlewareInterface {
  constructor(readonly leaf: Leaf) {}
  use(ctx: Context, next: () => Promise<unknown>): Promise<unknown> {
    ctx.set("x-leaf", String(this.leaf.number))
    return next()
  }
}

@JsonController()
@Service()
class Things {
  constructor(
    readonly leaf: Leaf,
    readonly branch: Branch,
    readonly tree: Tree,
    readonly passing: Passing,
    readonly chicken: Chicken,
    readonly mailer: Mailer,
    readonly maker: SessionMaker,
    @Inject(Greeting) readonly greeting: string,
    @Inject(Other) readonly other: SessionMaker,
    @InjectMany(Part) readonly parts: { number: number; leaf?: Leaf }[],
  ) {}

  @Get("/things")
  @UseInterceptor(Shouting)
  @UseBefore(Before)
  async get(@Ctx() ctx: Context): Promise<object> {
    await meeting?.(ctx)
    return {
      leaf: this.leaf.number,
      branch: this.branch.leaf.number,
      tree: this.tree.number,
      leafOfTree: this.tree.leaf.number,
      passing: this.passing.number,
      chicken: this.chicken.number,
      chickenOfEgg: (this.chicken.egg as Egg).chicken.number,
      isSameCircle: ((this.chicken.egg as Egg).chicken.egg as Egg) === this.chicken.egg,
      mailer: this.mailer.kind,
      isMaker: this.maker === Container.get(SessionMaker),
      isOther: this.other === Container.get(Other),
      greeting: this.greeting,
      parts: this.parts.map(({ number }) => number),
      leafOfPart: this.parts[1]?.leaf?.number,
    }
  }
}

let meeting: ((ctx: Context) => Promise<void>) | undefined

@JsonController()
@Service()
class Disposing {
  constructor(readonly outer: Outer) {}

  @Post("/disposing")
  async post(@Ctx() ctx: Context): Promise<object> {
    await this.outer.inner.db.save(Note, { text: "kept" })
    await meeting?.(ctx)
    return { closed: this.outer.inner.db.closed }
  }
}

@JsonController()
class Plain {
  @Get("/plain")
  get(): object {
    return { fine: true }
  }
}

interface Things1 {
  readonly leaf: number
  readonly branch: number
  readonly tree: number
  readonly leafOfTree: number
  readonly passing: number
  readonly chicken: number
  readonly chickenOfEgg: number
  readonly isSameCircle: boolean
  readonly mailer: string
  readonly isMaker: boolean
  readonly isOther: boolean
  readonly greeting: string
  readonly parts: number[]
  readonly leafOfPart: number
  readonly interceptor: number
}

describe("RequestContainer", () => {
  let app: SessionApp

  beforeEach(async () => {
    Container.set(Greeting, "hello")
    Container.set({ id: Other, factory: () => new SessionMaker("sqlite://") })
    Container.get(Other)
    app = await startServiceApp(sqliteMemory, { controllers: [Things, Disposing, Plain] })
    log.length = 0
  })
  afterEach(async () => {
    meeting = undefined
    destroying = undefined
    Container.remove(Greeting)
    Container.remove(Other)
    await app.stop()
  })

  async function things(headers: Record<string, string> = {}): Promise<Things1> {
    const reply = await app.http.get("/things", { headers })
    expect(reply.status, reply.text).to.equal(200)
    return reply.json()
  }

  it("builds a service once for a request, whoever asks for it, and anew for the next", async () => {
    const first = await things()
    const second = await things()
    for (const one of [first, second]) {
      expect([one.branch, one.interceptor, one.leafOfPart]).to.deep.equal([one.leaf, one.leaf, one.leaf])
    }
    expect(second.leaf).to.not.equal(first.leaf)
    expect(second.passing).to.not.equal(first.passing)
  })

  it("keeps a global service single, and builds it of nothing of a request", async () => {
    const [first, second] = [await things(), await things()]
    expect(second.tree).to.equal(first.tree)
    expect(second.leafOfTree).to.equal(first.leafOfTree)
    expect([first.leaf, second.leaf]).to.not.include(first.leafOfTree)
    expect(Container.get(Tree).number).to.equal(first.tree)
  })

  it("builds a circle of injected properties once", async () => {
    const { chicken, chickenOfEgg, isSameCircle } = await things()
    expect([chickenOfEgg, isSameCircle]).to.deep.equal([chicken, true])
  })

  it("gives all services of a multiple one, built for the request", async () => {
    const [first, second] = [await things(), await things()]
    expect(first.parts).to.have.length(2)
    expect(new Set([...first.parts, ...second.parts]).size).to.equal(4)
  })

  it("never lets requests with equal ids share", async () => {
    const bothCame = new Deferred()
    let came = 0
    meeting = async () => {
      if (++came === 2) bothCame.resolve()
      await bothCame.promise
    }
    const headers = { "x-request-id": "42" }
    const [first, second] = await Promise.all([things(headers), things(headers)])
    expect(first.leaf).to.not.equal(second.leaf)
    expect(first.passing).to.not.equal(second.passing)
  })

  it("gives what was set as a value: under a token, in the place of a class, and the maker", async () => {
    Container.set(Mailer, { kind: "fake", destroy: () => log.push("fake destroyed") })
    try {
      expect(await things()).to.include({ greeting: "hello", mailer: "fake", isMaker: true, isOther: true })
      await app.settled()
      expect(log).to.deep.equal([])
    } finally {
      Container.remove(Mailer)
      Container.set({ id: Mailer, type: Mailer })
    }
    expect(await things()).to.include({ mailer: "real", isMaker: true })
    expect(await app.maker.run((db) => db.count(Note))).to.equal(0)
  })

  it("does not share an object of the class that the global container has built", async () => {
    const built = Container.get(Leaf)
    const { leaf } = await things()
    expect(leaf).to.not.equal(built.number)
  })

  it("gives middleware classes from the global container, as they are asked for without the request", async () => {
    const reply = await app.http.get("/things")
    expect(reply.headers["x-leaf"]).to.not.equal(String(reply.json<Things1>().leaf))
    expect((await app.http.get("/things")).headers["x-leaf"]).to.equal(reply.headers["x-leaf"])
  })

  it("destroys services at the end of the request, the last built first, awaited, with their sessions closed", async () => {
    destroying = new Deferred()
    expect((await app.http.post("/disposing")).json()).to.deep.equal({ closed: false })
    const { error, ctx } = await app.errors.next()
    expect(error).to.have.property("message", "cannot be destroyed")
    expect(ctx?.path).to.equal("/disposing")
    expect(log).to.deep.equal(["outer", "inner, session closed"])
    destroying.resolve()
    await new Promise(setImmediate)
    expect(log).to.deep.equal(["outer", "inner, session closed", "inner done"])
    expect(await app.maker.run((db) => db.count(Note))).to.equal(1)
  })

  it("does not destroy services under an action whose client has left", async () => {
    const left = new Deferred()
    const goOn = new Deferred()
    meeting = async (ctx) => {
      const closed = once(ctx.res, "close")
      request.destroy()
      await closed
      left.resolve()
      await goOn.promise
      log.push("action ends")
    }
    const request = app.http.startRequest("/disposing", { method: "POST" })
    await left.promise
    await new Promise(setImmediate)
    expect(log).to.deep.equal([])
    goOn.resolve()
    await app.errors.next()
    expect(log.slice(0, 2)).to.deep.equal(["action ends", "outer"])
  })

  it("serves a controller that needs none of it", async () => {
    expect((await app.http.get("/plain")).json()).to.deep.equal({ fine: true })
  })
})

@Service()
class Counting {
  static built = 0
  constructor(@InjectSession({ isolation: "SERIALIZABLE", retries: 3 }) readonly db: Session) {
    Counting.built++
  }
}

@JsonController()
@Service()
class CountingController {
  constructor(readonly counting: Counting) {}

  @Post("/count")
  async count(): Promise<object> {
    const { db } = this.counting
    const { value } = await db.findOneByOrFail(Counter, { id: 1 })
    await meeting?.({} as Context)
    await db.update(Counter, { id: 1 }, { value: value + 1 })
    return { value: value + 1 }
  }
}

const postgres = testDatabases.find(({ kind }) => kind === "postgres")

describe("RequestContainer with retries", () => {
  it("builds the services anew for each attempt, on new sessions", async () => {
    if (!postgres) throw new Error("PostgreSQL is not among the databases.")
    const app = await startServiceApp(postgres, { controllers: [CountingController] })
    try {
      await app.maker.run((db) => db.save(Counter, { id: 1, value: 0 }))
      const bothRead = new Deferred()
      let read = 0
      meeting = async () => {
        if (++read === 2) bothRead.resolve()
        await bothRead.promise
      }
      const replies = await Promise.all([app.http.post("/count"), app.http.post("/count")])
      expect(replies.map(({ status, text }) => [status, text])).to.have.deep.members([
        [200, '{"value":1}'],
        [200, '{"value":2}'],
      ])
      expect(Counting.built).to.equal(3)
    } finally {
      meeting = undefined
      await app.stop()
    }
  })
})

void [FirstPart, SecondPart]
