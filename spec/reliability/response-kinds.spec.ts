import { once } from "node:events"
import { ServerResponse } from "node:http"
import { connect } from "node:net"
import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { shared } from "./support/databases"
import { recordEvents } from "./support/events"
import { eventually } from "./support/eventually"

interface Kind {
  readonly title: string
  readonly method?: "HEAD" | "GET" | "POST"
  readonly work: Work
  readonly status: number
  readonly isKept: boolean
}

const save: Work = (db) => db.insert(Note, { text: "kept?" })

const kinds: readonly Kind[] = [
  {
    title: "HEAD on a GET that writes",
    method: "HEAD",
    work: async (db, ctx) => {
      await save(db, ctx)
      return { ok: true }
    },
    status: 200,
    isKept: true,
  },
  {
    title: "a status of 204 with a body that is dropped",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.status = 204
      return ctx
    },
    status: 204,
    isKept: true,
  },
  {
    title: "a status of 304",
    method: "GET",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.status = 304
      return ctx
    },
    status: 304,
    isKept: true,
  },
  {
    title: "a redirect",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.redirect("/elsewhere")
      return ctx
    },
    status: 302,
    isKept: true,
  },
  { title: "an undefined result", work: async (db, ctx) => void (await save(db, ctx)), status: 404, isKept: false },
  {
    title: "a null result",
    work: async (db, ctx) => {
      await save(db, ctx)
      return null
    },
    status: 204,
    isKept: true,
  },
  {
    title: "a result that cannot be serialised",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.body = { big: 1n }
      return ctx
    },
    status: 500,
    isKept: false,
  },
  {
    title: "ctx.respond = false, ended by hand",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.respond = false
      ctx.res.statusCode = 203
      ctx.res.end("by hand")
      return ctx
    },
    status: 203,
    isKept: true,
  },
  {
    title: "ctx.respond = false, ended by hand later",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.respond = false
      setImmediate(() => ctx.res.writeHead(200).end("by hand"))
      return ctx
    },
    status: 200,
    isKept: true,
  },
  {
    title: "ctx.respond = false with a status of 500",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.respond = false
      ctx.res.statusCode = 500
      ctx.res.end("by hand")
      return ctx
    },
    status: 500,
    isKept: false,
  },
  {
    title: "the whole answer sent by the action itself",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.res.writeHead(200).end("by hand")
      return ctx
    },
    status: 200,
    isKept: true,
  },
]

describeOnEach("the session of every kind of response is ended exactly once", shared, (database) => {
  let server: SessionApp
  let recorded: ReturnType<typeof recordEvents>

  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 2_000 } })
    recorded = recordEvents()
  })
  afterEach(async () => {
    recorded.stop()
    await server.stop()
  })

  function expectEndedOnce(isKept: boolean): void {
    expect(recorded.names()).to.have.members([
      "session.opened",
      "transaction.begun",
      isKept ? "transaction.committed" : "transaction.rolledBack",
      "session.closed",
    ])
  }

  for (const { title, method = "POST", work, status, isKept } of kinds) {
    it(title, async () => {
      server.work = work
      for (let round = 0; round < 2; round++) {
        recorded.clear()
        const reply = await server.http.send("/json", { method })
        await server.settled()
        expect(reply.status).to.equal(status)
        expectEndedOnce(isKept)
        expect(await server.rows("SELECT text FROM note")).to.deep.equal(isKept ? [{ text: "kept?" }] : [])
        if (isKept) await server.maker.run((session) => session.query("DELETE FROM note"))
      }
    })
  }

  it("an upgraded socket: committed when the action returned, closed when the socket is", async () => {
    server.http.server.on("upgrade", (request, socket) => {
      const response = new ServerResponse(request)
      response.assignSocket(socket as never)
      // As a library for web sockets does.
      socket.resume().on("end", () => socket.end())
      server.app.callback()(request, response)
    })
    server.work = async (db, ctx) => {
      await save(db, ctx)
      ctx.respond = false
      ctx.req.socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
      return ctx
    }
    const socket = connect(server.http.port, "127.0.0.1")
    socket.write("GET /json HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    const [head] = (await once(socket, "data")) as [Buffer]
    expect(head.toString()).to.match(/^HTTP\/1\.1 101 /)
    await eventually("it is committed", () => server.maker.stats().committed === 1)
    expect(server.maker.stats()).to.include({ active: 0 })
    socket.destroy()
    await eventually("its session is closed", () => server.maker.stats().open === 0)
    expectEndedOnce(true)
  })

  it("a client that is gone before the answer, and one that goes in the middle of it", async () => {
    server.work = async (db, ctx) => {
      await save(db, ctx)
      if (ctx.query.gone !== undefined) {
        const closed = once(ctx.res, "close")
        ctx.res.destroy()
        await closed
      }
      return { filler: "x".repeat(20_000_000) }
    }
    await expect(server.http.post("/json?gone")).to.be.rejected
    await eventually("its session is closed", () => server.maker.stats().open === 0)
    expectEndedOnce(true)
    await server.maker.run((session) => session.query("DELETE FROM note"))
    recorded.clear()
    const started = server.http.startRequest("/json", { method: "POST" })
    await started.response
    started.destroy()
    await eventually("its session is closed", () => server.maker.stats().open === 0)
    expectEndedOnce(true)
  })
})
