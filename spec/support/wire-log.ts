import { once } from "node:events"
import { createServer } from "node:net"
import { type StatementLog, verbOf } from "./statement-log"
import { WireConnection, type WireRecord, type WireStatement } from "./wire-connection"

export type { WireStatement } from "./wire-connection"

/** A proxy in front of PostgreSQL that records what the clients really sent. */
export interface WireLog extends StatementLog {
  /** The target's URI with the proxy's address in it. */
  readonly uri: string
  /** `statements()` with the number of the connection that each was sent on, counted from 1 since the start. */
  entries(): WireStatement[]
  /**
   * Network round trips since the last `clear()`: how often a client sent after it had heard the answer to what it sent
   * before. Statements that were sent without waiting for each other share one. Connecting is not counted.
   * Without a delay a client in this process may hear an answer before it sends on: set one where that matters.
   */
  flights(): number
  /** Forgets statements and flights; connections stay. */
  clear(): void
  /** Client connections that are open now. */
  connections(): number
  /** @param ms one way, so that a round trip takes twice as long; 0 at the start */
  setDelay(ms: number): void
  /** Destroys all connections, as a server or network that goes away does. New ones are accepted. */
  cut(): void
  /**
   * Destroys a connection when it sends the next statement that matches, once.
   * @param when "before" the server sees the statement, or "after" it carried it out but before the client hears of it
   */
  cutOn(pattern: RegExp, when: "before" | "after"): void
  /** Destroys all connections and closes the port. */
  stop(): Promise<void>
}

/** Starts a proxy on a free port of 127.0.0.1. Understands no TLS: the target must be reachable without. */
export async function startWireLog(targetUri: string): Promise<WireLog> {
  const target = new URL(targetUri)
  const record: WireRecord = { statements: [], flights: 0, delayMs: 0, cutOn: undefined }
  const open = new Set<WireConnection>()
  let accepted = 0

  const server = createServer((client) => {
    accepted += 1
    const address = { host: target.hostname, port: Number(target.port || 5432) }
    const connection = new WireConnection(accepted, client, address, record)
    open.add(connection)
    connection.closed.then(() => open.delete(connection))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")

  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("The proxy has no port.")
  const uri = new URL(targetUri)
  uri.host = `127.0.0.1:${address.port}`

  function cut(): void {
    for (const connection of open) connection.destroy()
  }

  return {
    uri: uri.href,
    entries: () => [...record.statements],
    statements: () => record.statements.map(({ sql }) => sql),
    verbs: () => record.statements.map(({ sql }) => verbOf(sql)),
    flights: () => record.flights,
    clear() {
      record.statements = []
      record.flights = 0
    },
    connections: () => [...open].filter(({ isOpen }) => isOpen).length,
    setDelay(ms) {
      record.delayMs = ms
    },
    cut,
    cutOn(pattern, when) {
      record.cutOn = { pattern, when }
    },
    async stop() {
      const closed = once(server, "close")
      server.close()
      cut()
      await closed
    },
  }
}
