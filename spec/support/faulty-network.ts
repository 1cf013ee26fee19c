import { once } from "node:events"
import { createServer } from "node:net"
import { type BackendKey, type Fate, FaultyConnection, type FaultyRecord, type Observer } from "./faulty-connection"
import { type StatementLog, verbOf } from "./statement-log"
import type { DatabaseKind } from "./test-database"
import type { WireStatement } from "./wire-connection"

export type { BackendKey, Fate, Observer } from "./faulty-connection"

/** A proxy in front of PostgreSQL or MySQL that does to its connections what networks do. Understands no TLS. */
export interface FaultyNetwork extends StatementLog {
  /** the target's URI with the proxy's address in it */
  readonly uri: string
  readonly port: number
  /** `statements()` with the number of the connection that each was sent on, counted from 1 since the start. */
  entries(): WireStatement[]
  /** PostgreSQL: the cancel requests that came, each on a connection of its own, with its length in bytes. */
  cancels(): readonly (BackendKey & { readonly bytes: number })[]
  /** PostgreSQL: what the server gave a connection to cancel its statements with. */
  keyOf(connection: number): BackendKey | undefined
  /**
   * Decides the fate of the next statements that match; those of before are forgotten.
   * @param times how many; default 1
   */
  on(pattern: RegExp, fate: Fate, times?: number): void
  /** No packet passes either way, and nothing is closed: connections of now and, unless only those are meant, new ones. */
  silence(which?: "all" | "open now"): void
  /**
   * No packet passes any more on connections of now, whatever `resume()` says; the server hears of their end after a while,
   * the client never does. @param which only those that are silent already, or all @returns how many
   */
  abandon(which: "all" | "silent", endsAfterMs: number): number
  /** how many more statements meet the fate that `on()` decided */
  pendingFates(): number
  /** Packets pass again, those that were held first. */
  resume(): void
  /** Resets all connections. New ones are accepted. */
  cut(): void
  /** Resets new connections at once, until `admit()`; those of now live on. */
  refuse(): void
  admit(): void
  /**
   * @param ms one way, so that a round trip takes twice as long; 0 at the start
   * @param newMs the same for connections that are opened from now on; default as `ms`
   */
  setDelay(ms: number, newMs?: number): void
  /** client connections since the start */
  accepted(): number
  /** client connections that are open now */
  connections(): number
  /** Ends all connections and closes the port. */
  stop(): Promise<void>
}

/** @param observe called for each new connection */
export async function startFaultyNetwork(
  targetUri: string,
  kind: DatabaseKind,
  observe?: () => Observer,
): Promise<FaultyNetwork> {
  const target = new URL(targetUri)
  const address = { host: target.hostname, port: Number(target.port || (kind === "postgres" ? 5432 : 3306)) }
  const record: FaultyRecord = { statements: [], cancels: [], keys: new Map(), rule: undefined, delayMs: 0 }
  const open = new Set<FaultyConnection>()
  let accepted = 0
  let newDelayMs: number | undefined
  let isSilent = false
  let isRefusing = false

  const server = createServer({ noDelay: true }, (client) => {
    if (isRefusing) {
      client.on("error", () => undefined)
      client.resetAndDestroy()
      return
    }
    accepted += 1
    const ownDelayMs = newDelayMs
    const delayMs = () => ownDelayMs ?? record.delayMs
    const connection = new FaultyConnection(accepted, client, address, kind, record, delayMs, observe?.())
    if (isSilent) connection.silence()
    open.add(connection)
    void connection.closed.then(() => open.delete(connection))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const bound = server.address()
  if (bound === null || typeof bound === "string") throw new Error("The proxy has no port.")
  const uri = new URL(targetUri)
  uri.host = `127.0.0.1:${bound.port}`

  return {
    uri: uri.href,
    port: bound.port,
    entries: () => [...record.statements],
    statements: () => record.statements.map(({ sql }) => sql),
    verbs: () => record.statements.map(({ sql }) => verbOf(sql)),
    cancels: () => [...record.cancels],
    keyOf: (connection) => record.keys.get(connection),
    clear() {
      record.statements = []
      record.cancels = []
    },
    on(pattern, fate, times = 1) {
      record.rule = { pattern, fate, times }
    },
    silence(which = "all") {
      isSilent = which === "all"
      for (const connection of open) connection.silence()
    },
    abandon(which, endsAfterMs) {
      const chosen = [...open].filter(({ isOpen, isSilent: silent }) => isOpen && (which === "all" || silent))
      for (const connection of chosen) connection.abandon(endsAfterMs)
      return chosen.length
    },
    pendingFates: () => record.rule?.times ?? 0,
    resume() {
      isSilent = false
      for (const connection of open) connection.resume()
    },
    cut() {
      for (const connection of open) connection.reset()
    },
    refuse() {
      isRefusing = true
    },
    admit() {
      isRefusing = false
    },
    setDelay(ms, newMs) {
      record.delayMs = ms
      newDelayMs = newMs
    },
    accepted: () => accepted,
    connections: () => [...open].filter(({ isOpen }) => isOpen).length,
    async stop() {
      const closed = once(server, "close")
      isRefusing = true
      server.close()
      for (const connection of open) connection.reset()
      await closed
    },
  }
}
