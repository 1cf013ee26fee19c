import { once } from "node:events"
import { connect, createServer, type Server } from "node:net"
import { inspect } from "node:util"
import { expect } from "chai"
import Koa from "koa"
import { Body, Get, JsonController, Post } from "routing-controllers"
import { Container } from "typedi"
import { Session } from "../../src/decorators/session"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { SessionMaker } from "../../src/session/session-maker"
import { resetContainer } from "../../src/testing"
import { type Listening, listen } from "../support/http"
import { collectKoaErrors, type KoaErrors } from "../support/koa-errors"
import { postgres } from "../support/postgres-database"
import { withDatabase } from "../support/test-database"
import { startWireLog } from "../support/wire-log"

@JsonController()
class ProbeController {
  @Get("/")
  async read(@Session() db: Session): Promise<unknown> {
    return db.query("SELECT 1 AS one")
  }

  @Get("/plain")
  plain(): object {
    return { fine: true }
  }

  @Post("/")
  async write(@Session() db: Session, @Body() body: object): Promise<unknown> {
    await db.query("SELECT 1")
    return body
  }
}

const SECRET = "pa55-w0rd"

describe("bad input", () => {
  let http: Listening
  let errors: KoaErrors
  beforeEach(async () => {
    const app = new Koa()
    errors = collectKoaErrors(app)
    useKoaServer(app, { controllers: [ProbeController] })
    http = await listen(app)
  })
  afterEach(async () => {
    await http.close()
    await resetContainer()
  })

  async function refuses(uri: string, status: number, message: RegExp): Promise<void> {
    process.env.DATABASE_URI = uri
    const reply = await http.get("/")
    expect(reply.status).to.equal(status)
    expect(reply.json()).to.have.keys("name", "message")
    expect(reply.headers["retry-after"]).to.equal(status === 503 ? "1" : undefined)
    expect(errors.errors()).to.have.length(1)
    const [error] = errors.errors()
    expect((error as Error).message).to.match(message)
    expect(inspect(error, { depth: 9, showHidden: true }) + reply.text).to.not.include(SECRET)
    expect((await http.get("/plain")).json()).to.deep.equal({ fine: true })
  }

  it("names the schemes that there are for an unknown one", () =>
    refuses(`mongodb://u:${SECRET}@localhost/db`, 500, /mongodb.*sqlite/s))

  it("refuses what is no URI", () => refuses("not a uri", 500, /URI/))

  it("says where nothing listens", () =>
    refuses(`postgres://u:${SECRET}@127.0.0.1:1/db`, 503, /127\.0\.0\.1:1.*ECONNREFUSED.*start the database/s))

  it("says which host is unknown", () =>
    refuses(`postgres://u:${SECRET}@no-such-host.invalid/db`, 503, /no-such-host\.invalid.*host name/s))

  it("says which file cannot be opened", () => refuses("sqlite:////dev/null/app.db", 503, /dev\/null.*folder/s))

  it("says which database does not exist", async () => {
    const { uri, drop } = await postgres.createDatabase()
    const url = new URL(withDatabase(uri, "no_such_database"))
    url.password = SECRET
    await refuses(url.href, 503, /no_such_database.*does not exist/s)
    await drop()
  })

  it("says that user or password were refused", async () => {
    const { uri, drop } = await postgres.createDatabase()
    const url = new URL(uri)
    url.username = "no_such_role"
    url.password = SECRET
    await refuses(url.href, 503, /28[0-9A-Z]{3}.*user or password/s)
    await drop()
  })

  it("gives up on a server that accepts and never answers", async () => {
    const silent: Server = createServer((socket) => socket.on("error", () => undefined))
    silent.listen(0, "127.0.0.1")
    await once(silent, "listening")
    const { port } = silent.address() as { port: number }
    Container.set({
      id: SessionMaker,
      factory: () => new SessionMaker(`postgres://u:${SECRET}@127.0.0.1:${port}/db`, { connectTimeoutMS: 100 }),
    })
    const reply = await http.get("/")
    expect(reply.status).to.equal(503)
    expect((errors.errors()[0] as Error).message).to.not.include(SECRET)
    silent.close()
  })

  it("answers malformed JSON with 400, and touches nothing", async () => {
    delete process.env.DATABASE_URI
    const reply = await http.send("/", {
      method: "POST",
      body: '{"a":',
      headers: { "content-type": "application/json" },
    })
    expect(reply.status).to.equal(400)
    expect(reply.text).to.not.match(/\bat |node_modules/)
  })

  it("answers 503 while the database is down at the start, and 200 once it is up", async () => {
    const { uri, drop } = await postgres.createDatabase()
    const wire = await startWireLog(uri)
    process.env.DATABASE_URI = wire.uri
    await wire.stop()
    expect((await http.get("/")).status).to.equal(503)
    expect((await http.get("/plain")).status).to.equal(200)
    const port = Number(new URL(wire.uri).port)
    const back = await forward(port, Number(new URL(uri).port || 5432))
    expect((await http.get("/")).json()).to.deep.equal([{ one: 1 }])
    expect((await http.post("/", { a: 1 })).json()).to.deep.equal({ a: 1 })
    await resetContainer()
    back.close()
    await drop()
  })
})

/** Passes connections on to another port of this machine. */
async function forward(from: number, to: number): Promise<Server> {
  const server = createServer((client) => {
    const target = connect(to, "127.0.0.1")
    client.on("error", () => target.destroy())
    target.on("error", () => client.destroy())
    client.pipe(target).pipe(client)
  })
  server.listen(from, "127.0.0.1")
  await once(server, "listening")
  return server
}
