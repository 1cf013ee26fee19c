import { once } from "node:events"
import type { Socket } from "node:net"
import { Readable } from "node:stream"
import { expect } from "chai"
import type Koa from "koa"
import type { Session } from "../../src/decorators/session"
import { getSession } from "../../src/koa/sessions"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { sessionDatabases } from "../support/session-databases"

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

describeOnEach("release after the flush", sessionDatabases, (database) => {
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

  describe("with the client in mind", () => {
    let server: SessionApp
    afterEach(() => server.stop())

    it("ends the session of a plain Koa route", async () => {
      server = await startSessionApp(database, {
        extend: (app) => {
          app.use(async (ctx) => {
            const db = await getSession(ctx)
            await insert(db)
            ctx.body = { same: (await getSession(ctx)) === db }
          })
        },
      })
      const reply = await server.http.post("/elsewhere")
      await server.settled()
      expect(reply.json()).to.deep.equal({ same: true })
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
    })

    it("answers 500 and rolls back where a plain Koa route's body cannot be serialised", async () => {
      server = await startSessionApp(database, {
        extend: (app) => {
          app.use(async (ctx) => {
            await insert(await getSession(ctx))
            ctx.body = { big: 1n }
          })
        },
      })
      const reply = await server.http.post("/elsewhere")
      await server.settled()
      expect(reply.status).to.equal(500)
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "ROLLBACK"])
    })

    it("ends the session of a plain Koa route that throws", async () => {
      server = await startSessionApp(database, {
        extend: (app) => {
          app.use(async (ctx) => {
            await insert(await getSession(ctx))
            ctx.throw(409, "no")
          })
        },
      })
      const reply = await server.http.post("/elsewhere")
      await server.settled()
      expect([reply.status, reply.text]).to.deep.equal([409, "no"])
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "ROLLBACK"])
    })

    it("ends the session of a request that takes the socket over", async () => {
      server = await startSessionApp(database, {
        work: async (db, ctx) => {
          await insert(db)
          ctx.respond = false
          ctx.req.socket.end("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nraw")
          return ctx
        },
      })
      expect((await server.http.get("/json")).text).to.equal("raw")
      await server.settled()
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
    })

    it("ends the session where the client left before the action ran", async () => {
      const entered = new Deferred()
      const gone = new Deferred()
      const done = new Deferred<unknown>()
      let socket: Socket | undefined
      server = await startSessionApp(database, {
        prepare: (app) => {
          app.use(async (ctx: Koa.Context, next: Koa.Next) => {
            socket = ctx.req.socket
            entered.resolve()
            await gone.promise
            await next().then(done.resolve, done.resolve)
            ctx.res.destroy()
          })
        },
        work: insert,
      })
      const request = server.http.startRequest("/json", { method: "POST" })
      await entered.promise
      request.destroy()
      await once(socket as Socket, "close")
      gone.resolve()
      await done.promise
      await server.settled()
      const verbs = server.log.verbs()
      expect(verbs.filter((verb) => verb === "BEGIN")).to.have.length(
        verbs.filter((verb) => verb === "COMMIT" || verb === "ROLLBACK").length,
      )
    })

    for (const wrote of [true, false]) {
      it(`${wrote ? "commits" : "rolls back"} where the client left in mid-action and the session ${wrote ? "wrote" : "only read"}`, async () => {
        const entered = new Deferred()
        const goOn = new Deferred()
        const ended = new Deferred()
        server = await startSessionApp(database, {
          work: async (db, ctx) => {
            await (wrote ? insert(db) : db.count(Note))
            entered.resolve()
            await once(ctx.res, "close")
            await goOn.promise
            try {
              return { count: await db.count(Note) }
            } finally {
              ended.resolve()
            }
          },
        })
        const request = server.http.startRequest("/json", { method: "POST" })
        await entered.promise
        request.destroy()
        goOn.resolve()
        await ended.promise
        await server.settled()
        const verbs = server.log.verbs()
        expect(verbs.at(-1)).to.equal(wrote ? "COMMIT" : "ROLLBACK")
        expect(await server.rows("SELECT * FROM note")).to.have.length(wrote ? 1 : 0)
        expect(server.errors.errors()).to.deep.equal([])
      })
    }

    it('commits "after-response" where the client left in mid-action and the session wrote', async () => {
      const entered = new Deferred()
      server = await startSessionApp(database, {
        sessions: { commit: "after-response" },
        work: async (db, ctx) => {
          await insert(db)
          entered.resolve()
          await once(ctx.res, "close")
          return { ok: true }
        },
      })
      const request = server.http.startRequest("/json", { method: "POST" })
      await entered.promise
      request.destroy()
      await server.settled()
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
    })

    it("rolls back where the client left and the action then failed", async () => {
      const entered = new Deferred()
      server = await startSessionApp(database, {
        work: async (db, ctx) => {
          await insert(db)
          entered.resolve()
          await once(ctx.res, "close")
          throw new Error("The action failed.")
        },
      })
      const request = server.http.startRequest("/json", { method: "POST" })
      await entered.promise
      request.destroy()
      await server.settled()
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "ROLLBACK"])
    })

    it("ends the session where the client left in the middle of the body", async () => {
      const more = new Deferred()
      async function* slow(db: Session) {
        yield "x".repeat(100)
        await more.promise
        yield String(await db.count(Note))
      }
      let res: Koa.Context["res"] | undefined
      server = await startSessionApp(database, {
        work: async (db, ctx) => {
          await insert(db)
          res = ctx.res
          return Readable.from(slow(db))
        },
      })
      const request = server.http.startRequest("/json")
      const response = await request.response
      await once(response, "data")
      request.destroy()
      await once(res as Koa.Context["res"], "close")
      more.resolve()
      await server.settled()
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
    })

    it("leaves the queue where the client left while waiting for a pool of 1", async () => {
      const entered = new Deferred()
      const goOn = new Deferred()
      let requests = 0
      server = await startSessionApp(database, {
        maker: { poolSize: 1 },
        work: async (db) => {
          requests++
          await db.insert(Note, { text: `n${requests}` })
          entered.resolve()
          await goOn.promise
          return { ok: true }
        },
      })
      const holder = server.http.startRequest("/json", { method: "POST" })
      await entered.promise
      const queued = server.http.startRequest("/json", { method: "POST" })
      await until(() => server.maker.stats().waiting === 1)
      queued.destroy()
      await until(() => server.maker.stats().waiting === 0 && server.maker.stats().open === 1)
      goOn.resolve()
      expect((await holder.reply()).status).to.equal(200)
      expect((await server.http.post("/json")).status).to.equal(200)
      await server.settled()
      expect(await server.rows("SELECT text FROM note ORDER BY id")).to.deep.equal([{ text: "n1" }, { text: "n3" }])
      expect(server.errors.errors()).to.deep.equal([])
    })

    it("holds no connection while a slow reader takes a large buffered body", async () => {
      const large = Buffer.alloc(8 * 1024 * 1024, "x")
      server = await startSessionApp(database, {
        maker: { poolSize: 1 },
        work: async (db) => {
          await db.count(Note)
          return large
        },
      })
      const slow = await Promise.all([1, 2, 3].map(() => server.http.startRequest("/json").response))
      await until(() => server.maker.stats().active === 0)
      server.work = async (db) => ({ count: await db.count(Note) })
      expect((await server.http.get("/json")).status).to.equal(200)
      for (const response of slow) response.resume()
      await Promise.all(slow.map((response) => once(response, "end")))
    })
  })
})

const wires = sessionDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("result streams as the body", wires, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
    await server.maker.run((db) => db.query("INSERT INTO note (text) SELECT 'n' || i FROM generate_series(1, 5000) i"))
    server.log.clear()
  })
  afterEach(() => server.stop())

  const streamed = async (db: Session) => {
    const rows = await db.createQueryBuilder(Note, "note").stream()
    const lines = rows as unknown as Readable
    return lines.compose(async function* (source: AsyncIterable<object>) {
      for await (const row of source) yield `${JSON.stringify(row)}\n`
    })
  }

  it("reads to its end in its transaction, which then ends", async () => {
    server.work = streamed
    const reply = await server.http.get("/json")
    await server.settled()
    expect(reply.text.trim().split("\n")).to.have.length(5000)
    expect(server.log.verbs().filter((verb) => verb !== "SELECT")).to.deep.equal(["BEGIN", "COMMIT"])
    expect(server.errors.errors()).to.deep.equal([])
  })

  it("commits what was written before it", async () => {
    server.work = async (db) => {
      await insert(db)
      return streamed(db)
    }
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.text.trim().split("\n")).to.have.length(5001)
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "SELECT", "COMMIT"])
    expect(server.errors.errors()).to.deep.equal([])
  })

  for (const commit of ["after-response", "manual"] as const) {
    it(`reads to its end with commit "${commit}"`, async () => {
      await server.stop()
      server = await startSessionApp(database, { maker: { poolSize: 1 }, sessions: { commit }, work: streamed })
      await server.maker.run((db) => db.insert(Note, { text: "only" }))
      const reply = await server.http.get("/json")
      await server.settled()
      expect(reply.text.trim().split("\n")).to.have.length(1)
      expect(server.log.verbs().at(-1)).to.equal(commit === "manual" ? "ROLLBACK" : "COMMIT")
    })
  }

  for (const method of ["HEAD", "GET"]) {
    it(`ends where a ${method} response never reads it`, async () => {
      server.work = async (db, ctx) => {
        const body = await streamed(db)
        if (method === "HEAD") return body
        ctx.body = { instead: true }
        return ctx
      }
      const reply = await server.http.send("/json", { method })
      await server.settled()
      expect(reply.status).to.equal(200)
      expect(server.errors.errors()).to.deep.equal([])
      server.work = async (db) => ({ count: await db.count(Note) })
      expect((await server.http.get("/json")).json()).to.deep.equal({ count: 5000 })
    })
  }

  it("is destroyed with the client's connection, and gives its own back", async () => {
    server.work = async (db) => db.createQueryBuilder(Note, "note").stream().then(toLines)
    const request = server.http.startRequest("/json")
    const response = await request.response
    await once(response, "data")
    request.destroy()
    await server.settled()
    server.work = async (db) => ({ count: await db.count(Note) })
    expect((await server.http.get("/json")).json()).to.deep.equal({ count: 5000 })
  })

  it("rolls back and reports where it fails in the middle", async () => {
    server.work = async (db) => {
      await insert(db)
      const rows = await db.createQueryBuilder(Note, "note").select("1 / (4000 - note.id)", "x").stream()
      return toLines(rows as unknown as Readable)
    }
    await server.http.post("/json").catch(() => undefined)
    await server.settled()
    expect(await server.rows("SELECT * FROM note WHERE text = 'a'")).to.deep.equal([])
    server.work = async (db) => ({ count: await db.count(Note) })
    expect((await server.http.get("/json")).json()).to.deep.equal({ count: 5000 })
  })
})

function toLines(rows: NodeJS.ReadableStream): Readable {
  return (rows as Readable).map((row: object) => `${JSON.stringify(row)}\n`) as Readable
}

async function until(isTrue: () => boolean): Promise<void> {
  const deadline = performance.now() + 2_000
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error(`Never came true: ${isTrue}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
