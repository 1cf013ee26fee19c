import { expect } from "chai"
import { IsInt } from "class-validator"
import Koa from "koa"
import {
  Authorized,
  Ctx,
  CurrentUser,
  Get,
  JsonController,
  QueryParams,
  useKoaServer as useBareKoaServer,
} from "routing-controllers"
import { Session } from "../../src/decorators/session"
import { getSession, sessions } from "../../src/koa/sessions"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { describeOnEach } from "../support/databases"
import { listen } from "../support/http"
import { Note } from "../support/http-entities"
import { JsonActions, type SessionApp, startSessionApp } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

class Page {
  @IsInt()
  size!: number
}

@JsonController("/many")
class ManyParameters {
  @Get("/two")
  async two(@Session() first: Session, @Session() second: Session): Promise<object> {
    await Promise.all([first.count(Note), second.count(Note)])
    return { same: first === second }
  }

  @Authorized()
  @Get("/checked")
  async checked(
    @Session() db: Session,
    @CurrentUser() user: { db: Session },
    @Ctx() ctx: Koa.Context,
  ): Promise<object> {
    await db.count(Note)
    return { same: db === user.db && db === ctx.state.checker && db === (await getSession(ctx)) }
  }

  @Get("/invalid")
  async invalid(@Session() db: Session, @QueryParams() page: Page): Promise<object> {
    await db.count(Note)
    return page
  }
}

describeOnEach("one session for one request", httpDatabases, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, {
      controllers: [ManyParameters, JsonActions],
      // The one BEGIN is there to be seen: plain reads would need none.
      sessions: { deferBegin: false },
      authorizationChecker: async ({ context }) => {
        const db = await getSession(context)
        await db.count(Note)
        context.state.checker = db
        return context.query.refuse === undefined
      },
      currentUserChecker: async ({ context }) => {
        const db = await getSession(context)
        await db.count(Note)
        return { db }
      },
    })
  })
  afterEach(() => server.stop())

  it("gives two @Session() of an action the same one", async () => {
    const reply = await server.http.get("/many/two")
    await server.settled()
    expect(reply.json()).to.deep.equal({ same: true })
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "SELECT", "COMMIT"])
  })

  it("gives @Session(), currentUserChecker and authorizationChecker the same one", async () => {
    const reply = await server.http.get("/many/checked")
    await server.settled()
    expect(reply.json()).to.deep.equal({ same: true })
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "SELECT", "SELECT", "COMMIT"])
  })

  it("rolls back what an authorizationChecker used that refused", async () => {
    const reply = await server.http.get("/many/checked?refuse=1")
    await server.settled()
    expect(reply.status).to.equal(401)
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "ROLLBACK"])
  })

  it("sends nothing where a parameter is invalid while @Session() resolves", async () => {
    const reply = await server.http.get("/many/invalid?size=many")
    await server.settled()
    expect(reply.status).to.equal(400)
    expect(server.log.verbs()).to.deep.equal([])
    expect(server.maker.stats().open).to.equal(0)
  })

  it("gives getSession() with other options another one", async () => {
    server.work = async (db, ctx) => ({ same: (await getSession(ctx, { readOnly: true })) === db })
    expect((await server.http.get("/json")).json()).to.deep.equal({ same: false })
  })

  it("refuses a response that comes while two sessions wait for the one connection of the pool", async () => {
    await server.stop()
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 100 } })
    server.work = async (db) => {
      await db.insert(Note, { text: "outer" })
      return server.maker.run((other) => other.insert(Note, { text: "inner" }))
    }
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.status).to.equal(503)
    expect(reply.headers["retry-after"]).to.equal("1")
    expect(server.errors.errors()[0]).to.have.property("message").that.includes("POST /json")
    expect(await server.rows("SELECT * FROM note")).to.deep.equal([])
  })

  it("serves two useKoaServer() on one application", async () => {
    await server.stop()
    server = await startSessionApp(database, {
      controllers: [ManyParameters],
      sessions: { deferBegin: false },
      extend: (app) => {
        useKoaServer(app, { controllers: [JsonActions] })
      },
      work: async (db) => {
        await db.insert(Note, { text: "a" })
        return { ok: true }
      },
    })
    expect((await server.http.get("/many/two")).json()).to.deep.equal({ same: true })
    expect((await server.http.post("/json")).json()).to.deep.equal({ ok: true })
    await server.settled()
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "SELECT", "COMMIT", "BEGIN", "INSERT", "COMMIT"])
  })

  it("works with sessions() in front of routing-controllers' own useKoaServer()", async () => {
    const app = new Koa()
    app.context.work = async (db: Session) => {
      await db.insert(Note, { text: "a" })
      return { ok: true }
    }
    app.use(sessions())
    useBareKoaServer(app, { controllers: [JsonActions] })
    const http = await listen(app)
    const reply = await http.post("/json")
    await http.close()
    await server.settled()
    expect(reply.json()).to.deep.equal({ ok: true })
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
  })
})
