import { expect } from "chai"
import Koa from "koa"
import { Get, JsonController, Param } from "routing-controllers"
import { Container, Token } from "typedi"
import { Column, Entity } from "typeorm"
import { PrimaryGuid } from "../../src/columns/guid"
import { Session } from "../../src/decorators/session"
import { createDataSource } from "../../src/engine/data-source"
import { SettingsError } from "../../src/errors"
import { getSession } from "../../src/koa/sessions"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { contextSession } from "../../src/session/context-session"
import { SessionMaker } from "../../src/session/session-maker"
import { resetContainer } from "../../src/testing"
import { type CreatedDatabase, describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { type Listening, listen } from "../support/http"
import { collectKoaErrors, type KoaErrors } from "../support/koa-errors"
import { httpDatabases } from "../support/session-databases"

@Entity()
class Person {
  @PrimaryGuid()
  id!: string

  @Column()
  name!: string
}

const Second = new Token<SessionMaker>("second")

@JsonController()
class PersonController {
  @Get("/people/:id")
  async name(@Session() db: Session, @Param("id") id: string): Promise<object> {
    return { name: (await db.findOneByOrFail(Person, { id })).name }
  }

  @Get("/second")
  async second(@Session() db: Session, @Session({ maker: Second }) other: Session): Promise<object> {
    return [await db.count(Person), await other.count(Person)]
  }

  @Get("/untouched")
  untouched(): object {
    return { fine: true }
  }

  @Get("/unused")
  unused(@Session() db: Session): object {
    return { closed: db.closed }
  }
}

const shared = httpDatabases.filter(({ name }) => name !== "SQLite memory")

describeOnEach("the maker in typedi's container", shared, (testDatabase) => {
  let http: Listening
  let app: Koa
  let errors: KoaErrors
  let first: CreatedDatabase
  let second: CreatedDatabase

  beforeEach(async () => {
    first = await testDatabase.createDatabase()
    second = await testDatabase.createDatabase()
    app = new Koa()
    errors = collectKoaErrors(app)
    useKoaServer(app, { controllers: [PersonController] })
    http = await listen(app)
  })
  afterEach(async () => {
    await http.close()
    await resetContainer()
    await first.drop()
    await second.drop()
  })

  async function createPerson({ uri }: CreatedDatabase, name: string): Promise<string> {
    const maker = new SessionMaker(uri, { entities: [Person], synchronize: true })
    const { id } = await maker.run((db) => db.save(Person, { name }))
    await maker.close()
    return id
  }

  it("is built from DATABASE_URI at the first use, and anew after a reset", async () => {
    const ada = await createPerson(first, "Ada")
    const bob = await createPerson(second, "Bob")
    process.env.DATABASE_URI = first.uri
    expect((await http.get(`/people/${ada}`)).json()).to.deep.equal({ name: "Ada" })
    process.env.DATABASE_URI = second.uri
    expect((await http.get(`/people/${bob}`)).status).to.equal(404)
    await resetContainer()
    expect((await http.get(`/people/${bob}`)).json()).to.deep.equal({ name: "Bob" })
  })

  it("reads what contextSession() and maker.run() have created", async () => {
    const dataSource = await createDataSource(first.uri, { entities: [Person], synchronize: true })
    const { id: eve } = await contextSession(dataSource, (db) => db.save(Person, { name: "Eve" }))
    await dataSource.destroy()
    process.env.DATABASE_URI = first.uri
    expect((await http.get(`/people/${eve}`)).json()).to.deep.equal({ name: "Eve" })
    const { id: sam } = await Container.get(SessionMaker).run((db) => db.save(Person, { name: "Sam" }))
    expect((await http.get(`/people/${sam}`)).json()).to.deep.equal({ name: "Sam" })
  })

  it("answers 500 where there are no tables, says so to the server and not to the client", async () => {
    process.env.DATABASE_URI = first.uri
    const reply = await http.get("/people/3f1d6f0e-8f5e-4b0e-9a3a-0d6d2f3c1a11")
    expect(reply.status).to.equal(500)
    expect(reply.text).to.not.match(/person|table|select/i)
    expect(errors.errors()[0])
      .to.have.property("message")
      .that.matches(/no such table: person|relation "person" does not exist/)
  })

  it("is replaced by a value that was set", async () => {
    const ada = await createPerson(first, "Ada")
    const maker = new SessionMaker(first.uri, { entities: [Person] })
    Container.set(SessionMaker, maker)
    expect((await http.get(`/people/${ada}`)).json()).to.deep.equal({ name: "Ada" })
    await maker.close()
    expect(maker.stats().committed).to.equal(1)
  })

  it("is replaced by a factory that was set, which a reset calls again", async () => {
    const ada = await createPerson(first, "Ada")
    const bob = await createPerson(second, "Bob")
    const uris = [first.uri, second.uri]
    const factory = () => new SessionMaker(uris.shift() ?? "", { entities: [Person] })
    Container.set({ id: SessionMaker, factory })
    expect((await http.get(`/people/${ada}`)).json()).to.deep.equal({ name: "Ada" })
    await resetContainer()
    expect((await http.get(`/people/${bob}`)).json()).to.deep.equal({ name: "Bob" })
  })

  it("stands beside a second one under a token", async () => {
    await createPerson(first, "Ada")
    await createPerson(second, "Bob")
    await createPerson(second, "Eve")
    process.env.DATABASE_URI = first.uri
    const maker = new SessionMaker(second.uri, { entities: [Person] })
    Container.set(Second, maker)
    expect((await http.get("/second")).json()).to.deep.equal([1, 2])
    await maker.close()
  })

  it("answers 500 where a token is not registered", async () => {
    process.env.DATABASE_URI = first.uri
    const reply = await http.get("/second")
    expect(reply.status).to.equal(500)
  })

  it("keeps the requests in flight on their database where the container is reset", async () => {
    const ada = await createPerson(first, "Ada")
    await createPerson(second, "Bob")
    process.env.DATABASE_URI = first.uri
    const entered = new Deferred()
    const goOn = new Deferred()
    app.use(async (ctx) => {
      if (ctx.path !== "/in-flight") return
      const db = await getSession(ctx)
      await db.count(Person)
      entered.resolve()
      await goOn.promise
      const again = await getSession(ctx)
      ctx.body = { same: again === db, person: await again.findOneBy(Person, { id: ada }) }
    })
    const started = await listen(app)
    const request = started.startRequest("/in-flight", { method: "POST" })
    await entered.promise
    process.env.DATABASE_URI = second.uri
    const reset = resetContainer()
    expect((await started.get("/unused")).json()).to.deep.equal({ closed: false })
    goOn.resolve()
    expect((await request.reply()).json()).to.deep.equal({ same: true, person: { id: ada, name: "Ada" } })
    await reset
    await started.close()
    const [counted] = await Container.get(SessionMaker).run((db) => db.find(Person))
    expect(counted?.name).to.equal("Bob")
  })
})

describe("the maker in typedi's container", () => {
  let http: Listening
  let errors: KoaErrors
  beforeEach(async () => {
    const app = new Koa()
    errors = collectKoaErrors(app)
    useKoaServer(app, { controllers: [PersonController] })
    http = await listen(app)
  })
  afterEach(async () => {
    await http.close()
    await resetContainer()
  })

  it("answers 500 and names the variable to the server where DATABASE_URI is unset, until it is set", async () => {
    delete process.env.DATABASE_URI
    const reply = await http.get("/people/1")
    expect(reply.status).to.equal(500)
    expect(reply.text).to.not.match(/DATABASE_URI|settings/i)
    expect(errors.errors()[0]).to.be.instanceOf(SettingsError).with.property("message").that.includes("DATABASE_URI")
    expect((await http.get("/untouched")).json()).to.deep.equal({ fine: true })
    process.env.DATABASE_URI = "sqlite://"
    expect((await http.get("/unused")).json()).to.deep.equal({ closed: false })
  })

  it("is not built, and nothing is read, for an action without a session", async () => {
    delete process.env.DATABASE_URI
    expect((await http.get("/untouched")).json()).to.deep.equal({ fine: true })
    expect(errors.errors()).to.deep.equal([])
  })
})
