import { randomUUID } from "node:crypto"
import { expect } from "chai"
import type Koa from "koa"
import KoaApplication from "koa"
import { Ctx, Get, JsonController, Post } from "routing-controllers"
import { Container } from "typedi"
import type { Session } from "../../src/decorators/session"
import { Session as InjectedSession } from "../../src/decorators/session"
import { SessionOptionsError } from "../../src/errors"
import { getSession, sessions } from "../../src/koa/sessions"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { SessionMaker } from "../../src/session/session-maker"
import { sandbox } from "../../src/testing"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"
import { type Listening, listen } from "../support/http"
import { collectKoaErrors, type KoaErrors } from "../support/koa-errors"

let work: (db: Session, ctx: Koa.Context) => Promise<unknown> = async () => ({})

@JsonController("/tenant")
class TenantController {
  @Get("/")
  get(@InjectedSession() db: InjectedSession, @Ctx() ctx: Koa.Context): Promise<unknown> {
    return work(db, ctx)
  }

  @Post("/")
  post(@InjectedSession() db: InjectedSession, @Ctx() ctx: Koa.Context): Promise<unknown> {
    return work(db, ctx)
  }
}

const COUNT = "SELECT count(*)::int AS n FROM invoice"
const SETTING = "SELECT current_setting('app.tenant', true) AS tenant"

const postgres = testDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("variables(ctx) for row-level security", postgres, (testDatabase) => {
  const role = `tenant_app_${randomUUID().replaceAll("-", "").slice(0, 12)}`
  let database: CreatedDatabase
  let elsewhere: CreatedDatabase
  let maker: SessionMaker
  let http: Listening
  let errors: KoaErrors

  before(async () => {
    database = await testDatabase.createDatabase()
    elsewhere = await testDatabase.createDatabase()
    const owner = await database.open()
    await owner.query(`CREATE ROLE ${role} LOGIN PASSWORD '${role}' NOSUPERUSER NOBYPASSRLS`)
    await owner.query("CREATE TABLE invoice (id serial PRIMARY KEY, tenant text NOT NULL, amount int NOT NULL)")
    await owner.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON invoice TO ${role}`)
    await owner.query(`GRANT USAGE ON SEQUENCE invoice_id_seq TO ${role}`)
    await owner.query("ALTER TABLE invoice ENABLE ROW LEVEL SECURITY")
    await owner.query(`CREATE POLICY own_invoices ON invoice
      USING (tenant = current_setting('app.tenant', true)) WITH CHECK (tenant = current_setting('app.tenant', true))`)
    await owner.close()
    const uri = new URL(database.uri)
    uri.username = role
    uri.password = role
    maker = new SessionMaker(uri.href, { entities: [], poolSize: 1 })
    await maker.dataSource()
    const app = new KoaApplication()
    errors = collectKoaErrors(app)
    app.use(async (ctx, next) => {
      ctx.state.tenant = ctx.get("x-tenant") || undefined
      if (ctx.path === "/tenant") await next()
      else ctx.body = await work(await getSession(ctx), ctx)
    })
    useKoaServer(app, {
      controllers: [TenantController],
      sessions: {
        variables: (ctx) => (ctx.get("x-none") ? {} : { "app.tenant": ctx.state.tenant as string }),
      },
    })
    http = await listen(app)
  })
  beforeEach(async () => {
    Container.set({ id: SessionMaker, value: maker })
    errors.clear()
  })
  after(async () => {
    await http.close()
    await maker.close()
    await database.drop()
    const server = await elsewhere.open()
    await server.query(`DROP ROLE ${role}`)
    await elsewhere.drop()
  })

  async function ask<T>(tenant: string | undefined, method = "POST", more: Record<string, string> = {}): Promise<T> {
    const reply = await http.send("/tenant", { method, headers: { ...(tenant && { "x-tenant": tenant }), ...more } })
    expect(reply.status, reply.text).to.equal(200)
    return reply.json()
  }

  async function write(tenant: string, amount = 1): Promise<void> {
    work = (db) => db.query("INSERT INTO invoice (tenant, amount) VALUES ($1, $2)", [tenant, amount]).then(() => ({}))
    await ask(tenant)
  }

  function defineSpecs(): void {
    it("shows each tenant its own rows only, through one connection", async () => {
      await write("red")
      await write("red")
      await write("blue")
      work = async (db) => (await db.query(COUNT))[0]
      expect([await ask("red"), await ask("blue"), await ask("green")]).to.deep.equal([{ n: 2 }, { n: 1 }, { n: 0 }])
      expect(maker.stats().pool).to.deep.equal({ size: 1, max: 1 })
    })

    it("does so where requests of both come at once", async () => {
      await write("red")
      await write("blue")
      await write("blue")
      work = async (db, ctx) => {
        await new Promise(setImmediate)
        return { tenant: ctx.state.tenant, ...(await db.query(COUNT))[0] }
      }
      const tenants = Array.from({ length: 40 }, (_, index) => (index % 2 ? "red" : "blue"))
      const found = await Promise.all(tenants.map((tenant) => ask(tenant, "GET")))
      expect(found).to.deep.equal(tenants.map((tenant) => ({ tenant, n: tenant === "red" ? 1 : 2 })))
    })

    it("refuses to write for another tenant", async () => {
      work = (db) => db.query("INSERT INTO invoice (tenant, amount) VALUES ('blue', 1)")
      const reply = await http.post("/tenant", undefined, { headers: { "x-tenant": "red" } })
      expect(reply.status).to.equal(500)
      expect(errors.errors()[0])
        .to.have.property("message")
        .that.matches(/row-level security/)
    })

    it("leaves no setting to the next request: after a commit, a rollback, a failed statement", async () => {
      work = async () => ({})
      const ends: (typeof work)[] = [
        async (db) => db.query(SETTING),
        async (db) => {
          await db.query(SETTING)
          await db.rollback()
          return {}
        },
        async (db) => {
          await db.query(SETTING)
          throw new Error("rolled back")
        },
        async (db) => db.query("SELECT * FROM nowhere"),
      ]
      for (const end of ends) {
        work = end
        await http.post("/tenant", undefined, { headers: { "x-tenant": "red" } })
        work = async (db) => (await db.query(SETTING))[0]
        const { tenant } = await ask<{ tenant: string | null }>(undefined, "POST", { "x-none": "1" })
        expect(tenant).to.be.oneOf([null, ""])
        work = async (db) => (await db.query(COUNT))[0]
        expect(await ask(undefined, "POST", { "x-none": "1" })).to.deep.equal({ n: 0 })
      }
    })

    it("sets it again for what the action does after its own commit or rollback", async () => {
      work = async (db) => {
        await db.query("INSERT INTO invoice (tenant, amount) VALUES ('red', 1)")
        await db.commit()
        const [first] = await db.query(COUNT)
        await db.rollback()
        return [first.n, (await db.query(COUNT))[0].n]
      }
      expect(await ask("red")).to.deep.equal([1, 1])
    })

    it("is asked at the begin, so that what an authentication finds first counts after its commit", async () => {
      work = async (db, ctx) => {
        ctx.state.tenant = "nobody"
        const [before] = await db.query(SETTING)
        await db.commit()
        ctx.state.tenant = "red"
        return [before.tenant, (await db.query(SETTING))[0].tenant]
      }
      expect(await ask("x")).to.deep.equal(["nobody", "red"])
    })

    it("refuses the transaction where the tenant is not known, instead of setting an empty one", async () => {
      work = (db) => db.query(COUNT)
      const reply = await http.get("/tenant")
      expect(reply.status).to.equal(500)
      expect(errors.errors()[0])
        .to.be.instanceOf(SessionOptionsError)
        .with.property(
          "message",
          'sessions(): variables(ctx) gave undefined for "app.tenant": give a string, or leave the name out.',
        )
    })
  }

  describe("on a pool of one", () => {
    beforeEach(async () => {
      const owner = await database.open()
      await owner.query("TRUNCATE invoice")
      await owner.close()
    })
    defineSpecs()
  })

  describe("in the sandbox", () => {
    before(async () => {
      const owner = await database.open()
      await owner.query("TRUNCATE invoice")
      await owner.close()
    })
    sandbox()
    defineSpecs()

    it("has left nothing", async () => {
      const owner = await database.open()
      expect(await owner.query(COUNT)).to.deep.equal([{ n: 0 }])
      await owner.close()
    })
  })
})

const others = testDatabases.filter(({ kind }) => kind !== "postgres")

describeOnEach("variables(ctx) elsewhere", others, (testDatabase) => {
  let database: CreatedDatabase
  const { DATABASE_URI } = process.env
  const variables = () => ({ "app.tenant": "red" })
  const start = () => sessions({ variables })

  before(async () => {
    database = await testDatabase.createDatabase()
  })
  afterEach(() => {
    Container.remove(SessionMaker)
    if (DATABASE_URI === undefined) delete process.env.DATABASE_URI
    else process.env.DATABASE_URI = DATABASE_URI
  })
  after(() => database.drop())

  it("is a start-up error where the maker in the container has the URI", () => {
    Container.set(SessionMaker, new SessionMaker(database.uri))
    expect(start)
      .to.throw(SessionOptionsError, /PostgreSQL or CockroachDB/)
      .with.property("message")
      .that.does.not.include(database.uri)
  })

  it("is a start-up error where the environment has it", () => {
    process.env.DATABASE_URI = database.uri
    expect(start).to.throw(SessionOptionsError, /PostgreSQL or CockroachDB/)
  })

  it("is none where the database is not known yet, or its configuration is at fault", () => {
    delete process.env.DATABASE_URI
    expect(start).to.not.throw()
    process.env.DATABASE_URI = "nonsense"
    expect(start).to.not.throw()
    const choose = () => expect.fail("was called at start-up")
    Container.set(SessionMaker, new SessionMaker(choose))
    expect(start).to.not.throw()
  })

  it("is refused at the first statement where the maker came later, and says where it works", async () => {
    const app = new KoaApplication()
    const errors = collectKoaErrors(app)
    app.use(sessions({ variables }))
    app.use(async (ctx) => {
      ctx.body = await (await getSession(ctx)).query("SELECT 1 AS one")
    })
    const maker = new SessionMaker(database.uri, { entities: [] })
    Container.set({ id: SessionMaker, value: maker })
    const http = await listen(app)
    try {
      expect((await http.get("/")).status).to.equal(500)
    } finally {
      await http.close()
      await maker.close()
    }
    expect((errors.errors()[0] as Error).cause)
      .to.be.instanceOf(SessionOptionsError)
      .with.property("message")
      .that.matches(/PostgreSQL/)
  })
})
