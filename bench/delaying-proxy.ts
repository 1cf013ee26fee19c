import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { MessageReader, sqlOf } from "../spec/support/postgres-messages"
import { splitStatements, verbOf } from "../spec/support/statement-log"

/** Node's timers tick in whole ms: what is left of the delay is waited for turn by turn. */
const TIMER_SLACK_MS = 1.5

/** A TCP proxy in front of PostgreSQL that delays each direction and notes what the clients send. */
export interface DelayingProxy {
  readonly port: number
  /** The verbs of each write that reached the proxy in one piece since the last call: `["BEGIN SELECT", "INSERT", "COMMIT"]`. */
  takeWrites(): string[]
  stop(): Promise<void>
}

/** @param delayMs one way; a round trip takes twice as long */
export async function startDelayingProxy(target: URL, delayMs: number): Promise<DelayingProxy> {
  let writes: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (client) => {
    const database = connect({ host: target.hostname, port: Number(target.port || 5432), noDelay: true })
    const reader = new MessageReader("client")
    client.on("data", (chunk) => {
      const verbs = reader.read(chunk).flatMap((message) => splitStatements(sqlOf(message) ?? "").map(verbOf))
      if (verbs.length > 0) writes.push(verbs.join(" "))
    })
    forward(client, database, delayMs)
    forward(database, client, delayMs)
    for (const socket of [client, database]) {
      sockets.add(socket)
      socket.on("error", () => socket.destroy())
      socket.on("close", () => {
        sockets.delete(socket)
        client.destroy()
        database.destroy()
      })
    }
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return {
    port: (server.address() as AddressInfo).port,
    takeWrites() {
      const taken = writes
      writes = []
      return taken
    },
    async stop() {
      const closed = once(server, "close")
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

function forward(from: Socket, to: Socket, delayMs: number): void {
  if (delayMs === 0) {
    from.on("data", (chunk) => to.write(chunk))
    return
  }
  const queue: { readonly dueAt: number; readonly chunk: Buffer }[] = []
  const pass = () => {
    for (let first = queue[0]; first !== undefined; first = queue[0]) {
      const leftMs = first.dueAt - performance.now()
      if (leftMs > TIMER_SLACK_MS) return void setTimeout(pass, Math.floor(leftMs - TIMER_SLACK_MS) + 1)
      if (leftMs > 0) return void setImmediate(pass)
      queue.shift()
      to.write(first.chunk)
    }
  }
  from.on("data", (chunk) => {
    queue.push({ dueAt: performance.now() + delayMs, chunk })
    if (queue.length === 1) pass()
  })
}
