import { expect } from "chai"
import type Koa from "koa"
import { HttpError, NotFoundError } from "routing-controllers"
import { Column, Entity, PrimaryColumn, QueryFailedError } from "typeorm"
import { PrimaryGuid } from "../../src/columns/guid"
import { getSession } from "../../src/koa/sessions"
import { describeOnEach, type TestDatabase } from "../support/databases"
import { httpEntities, Note, Remark } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

@Entity()
class Strict {
  @PrimaryGuid()
  id!: string

  @Column({ length: 5 })
  short!: string

  @Column({ type: "smallint" })
  small!: number
}

@Entity()
class Required {
  @PrimaryColumn()
  id!: number

  @Column()
  secret!: string
}

interface Failure {
  readonly title: string
  readonly status: number
  readonly on?: TestDatabase["kind"]
  readonly work: Work
  /** name of the original */
  readonly cause: string
}

const SECRET = "s3cret-value"
const id = "3f1d6f0e-8f5e-4b0e-9a3a-0d6d2f3c1a11"

const failures: readonly Failure[] = [
  {
    title: "an entity that is not there",
    status: 404,
    work: (db) => db.findOneByOrFail(Note, { text: SECRET }),
    cause: "EntityNotFoundError",
  },
  {
    title: "a unique violation",
    status: 409,
    work: async (db) => {
      await db.insert(Note, { text: SECRET })
      await db.insert(Note, { text: SECRET })
    },
    cause: "QueryFailedError",
  },
  {
    title: "a foreign-key violation at COMMIT",
    status: 409,
    work: async (db) => {
      await db.insert(Remark, { noteId: 77 })
      return { ok: true }
    },
    cause: "QueryFailedError",
  },
  {
    title: "a not-null violation",
    status: 400,
    work: (db) => db.query(`INSERT INTO required (id, secret) VALUES (1, NULL)`),
    cause: "QueryFailedError",
  },
  {
    title: "a check violation",
    status: 400,
    work: (db) => db.query("INSERT INTO checked (age) VALUES (-1)"),
    cause: "QueryFailedError",
  },
  {
    title: "a malformed GUID, refused before it reaches the database",
    status: 400,
    work: (db) => db.findOneBy(Strict, { id: SECRET }),
    cause: "InvalidGuidError",
  },
  {
    title: "a malformed value for its type",
    status: 400,
    on: "postgres",
    work: (db) => db.query("SELECT * FROM note WHERE id = $1", [SECRET]),
    cause: "QueryFailedError",
  },
  {
    title: "a byte that no text may hold",
    status: 400,
    on: "postgres",
    work: (db) => db.insert(Note, { text: `${SECRET}\u0000` }),
    cause: "QueryFailedError",
  },
  {
    title: "a value that is too long",
    status: 400,
    on: "postgres",
    work: (db) => db.insert(Strict, { id, short: SECRET, small: 1 }),
    cause: "QueryFailedError",
  },
  {
    title: "a number that is out of range",
    status: 400,
    on: "postgres",
    work: (db) => db.insert(Strict, { id, short: "a", small: 70_000 }),
    cause: "QueryFailedError",
  },
  {
    title: "an exclusion violation",
    status: 409,
    on: "postgres",
    work: (db) => db.query("INSERT INTO booked (room) VALUES (1), (1)"),
    cause: "QueryFailedError",
  },
  {
    title: "a lock timeout",
    status: 503,
    on: "postgres",
    work: async (db) => {
      await db.query("SET LOCAL lock_timeout = 20")
      await db.query("LOCK TABLE note")
    },
    cause: "QueryFailedError",
  },
  {
    title: "a statement timeout",
    status: 503,
    on: "postgres",
    work: async (db) => {
      await db.query("SET LOCAL statement_timeout = 20")
      await db.query("SELECT pg_sleep(5)")
    },
    cause: "QueryFailedError",
  },
  {
    title: "a backend that is terminated",
    status: 503,
    on: "postgres",
    work: (db) => db.query("SELECT pg_terminate_backend(pg_backend_pid())"),
    cause: "QueryFailedError",
  },
  {
    title: "a table that does not exist",
    status: 500,
    work: (db) => db.query(`SELECT '${SECRET}' FROM nowhere`),
    cause: "QueryFailedError",
  },
  {
    title: "a syntax error",
    status: 500,
    work: (db) => db.query(`SELEKT '${SECRET}'`),
    cause: "QueryFailedError",
  },
  {
    title: "an entity that TypeORM does not know",
    status: 500,
    work: (db) => db.find("Unknown entity"),
    cause: "EntityMetadataNotFoundError",
  },
  {
    title: "a failed statement that the action swallowed",
    status: 500,
    on: "postgres",
    work: async (db) => {
      await db.query(`SELECT '${SECRET}' FROM nowhere`).catch(() => undefined)
      return { ok: true }
    },
    cause: "TransactionAbortedError",
  },
]

const LEAKS =
  /s3cret|select|insert|commit|lock|pg_|sqlite|note|remark|required|constraint|query|driver|nowhere|\/|\bat |\.ts|\.js/i

async function startWithTables(
  database: TestDatabase,
  options: Parameters<typeof startSessionApp>[1],
): Promise<SessionApp> {
  const server = await startSessionApp(database, {
    ...options,
    maker: { entities: [...httpEntities, Strict, Required] },
  })
  await server.maker.run(async (db) => {
    await db.query("CREATE TABLE checked (age integer CHECK (age > 0))")
    if (database.kind === "postgres") {
      await db.query("CREATE TABLE booked (room integer, EXCLUDE USING btree (room WITH =))")
    }
  })
  server.log.clear()
  return server
}

describeOnEach("errors of the database over HTTP", httpDatabases, (database) => {
  const known = failures.filter(({ on = database.kind }) => on === database.kind)
  let server: SessionApp
  afterEach(() => server.stop())

  async function provoke({ title, work }: Failure, path: string) {
    server.work = work
    const lock = title === "a lock timeout" ? await server.database.open() : undefined
    await lock?.query("BEGIN")
    await lock?.query("LOCK TABLE note")
    const reply = await server.http.post(path)
    await lock?.close()
    await server.settled()
    return reply
  }

  for (const [environment, development] of [
    ["development", undefined],
    ["production", undefined],
    ["test", true],
    ["production", true],
    ["development", false],
  ] as const) {
    it(`says nothing of the database with NODE_ENV=${environment}, development: ${development}`, async () => {
      process.env.NODE_ENV = environment
      server = await startWithTables(database, development === undefined ? {} : { development })
      for (const failure of known) {
        for (const path of ["/json", "/text"]) {
          const reply = await provoke(failure, path)
          expect(reply.status, failure.title).to.equal(failure.status)
          expect(reply.text.replace("The database does not accept", ""), failure.title).to.not.match(LEAKS)
          expect(reply.headers["retry-after"], failure.title).to.equal(failure.status === 503 ? "1" : undefined)
          if (path === "/json") expect(reply.json(), failure.title).to.have.keys("name", "message")
          else expect(reply.headers["content-type"], failure.title).to.match(/^text\/plain/)
        }
      }
    })
  }

  for (const failure of known) {
    it(`gives error middleware ${failure.status} and the original for ${failure.title}`, async () => {
      const seen: unknown[] = []
      server = await startWithTables(database, {
        defaultErrorHandler: false,
        prepare: (app) => {
          app.use(async (_ctx: Koa.Context, next: Koa.Next) => {
            try {
              await next()
            } catch (error) {
              seen.push(error)
              throw error
            }
          })
        },
      })
      const reply = await provoke(failure, "/json")
      expect(reply.status).to.equal(failure.status)
      expect(reply.text).to.not.match(/s3cret|select|insert|nowhere|constraint/i)
      expect(reply.headers["retry-after"]).to.equal(failure.status === 503 ? "1" : undefined)
      expect(seen[0]).to.be.instanceOf(HttpError).and.include({ httpCode: failure.status })
      expect((seen[0] as Error).cause).to.have.property("name", failure.cause)
    })
  }

  it("gives the server the original of a 500, which the client does not see", async () => {
    server = await startWithTables(database, {})
    server.work = (db) => db.query("SELECT * FROM nowhere")
    await server.http.get("/json")
    await server.settled()
    expect(server.errors.errors()).to.have.length(1)
    expect(server.errors.errors()[0])
      .to.be.instanceOf(QueryFailedError)
      .with.property("message")
      .that.includes("nowhere")
  })

  it("leaves the errors of the application as they are", async () => {
    class TeapotError extends HttpError {
      readonly detail = "my own"
      constructor() {
        super(418, "short and stout")
      }
    }
    server = await startWithTables(database, { development: false })
    server.work = () => {
      throw new TeapotError()
    }
    const teapot = await server.http.get("/json")
    expect(teapot.status).to.equal(418)
    expect(teapot.json()).to.deep.equal({ name: "HttpError", message: "short and stout", detail: "my own" })
    server.work = () => {
      throw new NotFoundError("No such thing.")
    }
    expect((await server.http.get("/json")).json()).to.deep.equal({ name: "NotFoundError", message: "No such thing." })
    expect(server.errors.errors()).to.deep.equal([])
  })

  it("leaves all errors as they are with mapErrors: false", async () => {
    server = await startWithTables(database, { sessions: { mapErrors: false }, defaultErrorHandler: false })
    server.work = (db) => db.findOneByOrFail(Note, { id: 1 })
    const reply = await server.http.get("/json")
    await server.settled()
    expect(reply.status).to.equal(500)
    expect(server.errors.errors()[0]).to.have.property("name", "EntityNotFoundError")
  })

  it("maps the errors of plain Koa routes, too", async () => {
    server = await startWithTables(database, {
      extend: (app) => {
        app.use(async (ctx) => {
          ctx.body = await (await getSession(ctx)).findOneByOrFail(Note, { id: 1 })
        })
      },
    })
    const reply = await server.http.get("/elsewhere")
    expect([reply.status, reply.text]).to.deep.equal([404, "Not found."])
  })
})
