import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net"
import { expect } from "chai"
import { SessionMaker } from "../../src/session/session-maker"
import type { CreatedDatabase } from "../support/databases"
import { postgres } from "../support/postgres-database"

const READY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])

/** ErrorResponse as `pg_terminate_backend` makes it. @see PostgreSQL 18 manual, section 54.8 "Error and Notice Message Fields" */
function fatal(): Buffer {
  const fields = Buffer.from("SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0")
  const head = Buffer.from([0x45, 0, 0, 0, 0])
  head.writeInt32BE(fields.length + 4, 1)
  return Buffer.concat([head, fields])
}

/** Between the maker and the server; ends the next connection in the packet that says it is ready. */
class EndingProxy {
  endsNext = false
  ended = 0
  readonly #sockets = new Set<Socket>()
  readonly #server: Server

  constructor(private readonly target: URL) {
    this.#server = createServer((client) => this.#serve(client)).listen(0, "127.0.0.1")
  }

  async uri(): Promise<string> {
    if (!this.#server.listening) await once(this.#server, "listening")
    const url = new URL(this.target.href)
    url.port = String((this.#server.address() as AddressInfo).port)
    return url.href
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, "close")
  }

  #serve(client: Socket): void {
    const server = connect({ host: this.target.hostname, port: Number(this.target.port || 5432) })
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on("error", () => socket.destroy())
    }
    client.pipe(server)
    server.on("end", () => client.end())
    server.on("data", (chunk) => {
      if (!this.endsNext || !chunk.subarray(-READY.length).equals(READY)) {
        client.write(chunk)
        return
      }
      this.endsNext = false
      this.ended++
      client.end(Buffer.concat([chunk, fatal()]))
      server.destroy()
    })
  }
}

describe("a connection that the server ends in the packet that says it is ready", () => {
  let database: CreatedDatabase
  let proxy: EndingProxy
  let maker: SessionMaker

  beforeEach(async () => {
    database = await postgres.createDatabase()
    proxy = new EndingProxy(new URL(database.uri))
    maker = new SessionMaker(await proxy.uri(), { entities: [], poolSize: 2 })
  })

  afterEach(async () => {
    await maker.close({ timeoutMs: 1 })
    await proxy.stop()
    await database.drop()
  })

  it("is replaced by another one, and does not end the process", async () => {
    await using held = await maker.open()
    await held.query("SELECT 1")
    proxy.endsNext = true
    const rows = await maker.run((session) => session.query("SELECT 2 AS number"))
    expect(rows).to.deep.equal([{ number: 2 }])
    expect(proxy.ended).to.equal(1)
    expect(maker.stats()).to.include({ open: 1, active: 1, waiting: 0 })
  })
})
