import { once } from "node:events"
import { expect } from "chai"
import Koa from "koa"
import { Deferred } from "../support/deferred"
import { type Listening, listen, readReply } from "../support/http"
import { collectKoaErrors } from "../support/koa-errors"

describe("listen()", () => {
  let app: Koa
  let web: Listening

  beforeEach(() => {
    app = new Koa()
  })

  afterEach(async () => {
    await web.close()
  })

  async function serve(middleware: Koa.Middleware): Promise<void> {
    web = await listen(app.use(middleware))
  }

  it("sends JSON and reads status, headers and body", async () => {
    await serve(async (ctx) => {
      const chunks: Buffer[] = []
      for await (const chunk of ctx.req) chunks.push(chunk)
      ctx.status = 201
      ctx.body = { method: ctx.method, type: ctx.get("content-type"), body: String(Buffer.concat(chunks)) }
    })
    const reply = await web.post("/notes", { text: "ä" })
    expect(reply.status).to.equal(201)
    expect(reply.headers["content-type"]).to.equal("application/json; charset=utf-8")
    expect(reply.json()).to.deep.equal({ method: "POST", type: "application/json", body: '{"text":"ä"}' })
  })

  it("sends HEAD", async () => {
    await serve((ctx) => {
      ctx.body = "four"
    })
    const reply = await web.head("/")
    expect([reply.status, reply.headers["content-length"], reply.text]).to.deep.equal([200, "4", ""])
  })

  it("goes away in mid-request at destroy()", async () => {
    const errors = collectKoaErrors(app)
    const [entered, left] = [new Deferred(), new Deferred()]
    await serve(async (ctx) => {
      const closed = once(ctx.res, "close")
      entered.resolve()
      await closed
      left.resolve()
    })
    const started = web.startRequest("/")
    await entered.promise
    started.destroy()
    await left.promise
    await expect(started.reply()).to.be.rejectedWith("socket hang up")
    expect(errors.all()).to.deep.equal([])
  })

  it("reads nothing of a body before it is asked to", async () => {
    const size = 50_000_000
    const flushed = new Deferred()
    let isFlushed = false
    await serve((ctx) => {
      if (ctx.path === "/small") {
        ctx.body = "small"
        return
      }
      ctx.res.once("finish", () => {
        isFlushed = true
        flushed.resolve()
      })
      ctx.body = Buffer.alloc(size, "x")
    })
    const response = await web.startRequest("/large").response
    await web.get("/small")
    expect(isFlushed).to.equal(false)
    expect((await readReply(response)).text).to.have.length(size)
    await flushed.promise
  })
})

describe("collectKoaErrors()", () => {
  it("hands over each emitted error with its context, also before it came", async () => {
    const app = new Koa()
    const errors = collectKoaErrors(app)
    const awaited = errors.next()
    app.use(() => {
      throw new Error("no such note")
    })
    const web = await listen(app)
    const reply = await web.get("/notes")
    await web.close()
    const { error, ctx } = await awaited
    expect(reply.status).to.equal(500)
    expect(error).to.be.an("error").with.property("message", "no such note")
    expect(ctx?.path).to.equal("/notes")
    expect(errors.errors()).to.deep.equal([error])
  })
})
