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
import { type SessionApp, startSessionApp } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

const insert = (db: Session) => db.insert(Note, { text: "a" })

describeOnEach("release, with the client in mind", httpDatabases, (database) => {
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
        sessions: { deferBegin: false },
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

async function until(isTrue: () => boolean): Promise<void> {
  const deadline = performance.now() + 2_000
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error(`Never came true: ${isTrue}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
