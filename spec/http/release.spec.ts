import { Readable } from "node:stream"
import { expect } from "chai"
import type Koa from "koa"
import type { Session } from "../../src/decorators/session"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

interface Ending {
  readonly title: string
  readonly work: Work
  readonly method?: string
  readonly status: number
  readonly text?: string
  readonly end?: "COMMIT" | "ROLLBACK"
}

const insert = (db: Session) => db.insert(Note, { text: "a" })

/** Writes, then answers. */
function writeAnd(answer: (db: Session, ctx: Koa.Context) => unknown): Work {
  return async (db, ctx) => {
    await insert(db)
    return answer(db, ctx)
  }
}

async function* pages(db: Session): AsyncGenerator<string> {
  for (let page = 0; page < 5; page++) {
    const notes = await db.find(Note, { order: { id: "ASC" }, skip: page, take: 1 })
    yield notes.map(({ text }) => text).join()
  }
}

const endings: readonly Ending[] = [
  { title: "a string", work: writeAnd(() => "text"), status: 200 },
  { title: "a buffer", work: writeAnd(() => Buffer.from("bytes")), status: 200, text: "bytes" },
  { title: "JSON", work: writeAnd(() => ({ a: 1 })), status: 200, text: '{"a":1}' },
  {
    title: "a stream of Node",
    work: writeAnd(() => Readable.from(["one", "two"])),
    status: 200,
    text: "onetwo",
  },
  {
    title: "a stream that reads page by page through the session",
    work: writeAnd((db) => Readable.from(pages(db))),
    status: 200,
    text: "a",
  },
  { title: "HEAD", work: writeAnd(() => ({ a: 1 })), method: "HEAD", status: 200, text: "" },
  {
    title: "HEAD with a stream that is never read",
    work: writeAnd((db) => Readable.from(pages(db))),
    method: "HEAD",
    status: 200,
    text: "",
  },
  {
    title: "204",
    work: writeAnd((_db, ctx) => {
      ctx.status = 204
      return ctx
    }),
    status: 204,
    text: "",
  },
  {
    title: "204 with a stream",
    work: async (db, ctx) => {
      await insert(db)
      ctx.body = Readable.from(pages(db))
      ctx.status = 204
      return ctx
    },
    status: 204,
    text: "",
  },
  {
    title: "304",
    work: writeAnd((_db, ctx) => {
      ctx.status = 304
      return ctx
    }),
    status: 304,
    text: "",
  },
  {
    title: "a redirect",
    work: writeAnd((_db, ctx) => {
      ctx.redirect("/x")
      return ctx
    }),
    status: 302,
  },
  { title: "null", work: writeAnd(() => null), status: 204, text: "" },
  { title: "undefined", work: writeAnd(() => undefined), status: 404, end: "ROLLBACK" },
  {
    title: "the context without a body, a 404 of Koa",
    work: writeAnd((_db, ctx) => ctx),
    status: 404,
    end: "ROLLBACK",
  },
  {
    title: "ctx.respond = false, ended by hand in the action",
    work: async (db, ctx) => {
      await insert(db)
      ctx.respond = false
      ctx.res.statusCode = 201
      ctx.res.end("by hand")
      return ctx
    },
    status: 201,
    text: "by hand",
  },
  {
    title: "ctx.respond = false, ended by hand much later, through the session",
    work: async (db, ctx) => {
      await insert(db)
      ctx.respond = false
      setImmediate(async () => {
        ctx.res.statusCode = 200
        ctx.res.end(String(await db.count(Note)))
      })
      return ctx
    },
    status: 200,
    text: "1",
  },
]

describeOnEach("release after the flush", httpDatabases, (database) => {
  for (const commit of ["auto", "before-response", "after-response"] as const) {
    describe(`with commit "${commit}"`, () => {
      let server: SessionApp
      beforeEach(async () => {
        server = await startSessionApp(database, { sessions: { commit }, maker: { poolSize: 1 } })
      })
      afterEach(() => server.stop())

      for (const { title, work, method = "GET", status, text, end = "COMMIT" } of endings) {
        it(`ends once: ${title}`, async () => {
          server.work = work
          const reply = await server.http.send("/json", { method })
          await server.settled()
          const verbs = server.log.verbs()
          const ends = verbs.filter((verb) => verb === "COMMIT" || verb === "ROLLBACK").length
          expect(reply.status).to.equal(status)
          if (text !== undefined) expect(reply.text).to.equal(text)
          expect(ends).to.equal(verbs.filter((verb) => verb === "BEGIN").length)
          expect(verbs.find((verb) => verb === "COMMIT" || verb === "ROLLBACK")).to.equal(end)
          expect(await server.rows("SELECT text FROM note")).to.have.length(end === "COMMIT" ? 1 : 0)
          expect(server.errors.errors()).to.deep.equal([])
          const { open, active, waiting } = server.maker.stats()
          expect({ open, active, waiting }).to.deep.equal({ open: 0, active: 0, waiting: 0 })
          server.work = async (db) => ({ count: await db.count(Note) })
          expect((await server.http.get("/json")).status).to.equal(200)
        })
      }
    })
  }
})
