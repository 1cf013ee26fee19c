import { connect, type Socket } from "node:net"
import { DelayLine } from "./delay-line"
import { readStatements } from "./mysql-log"
import { MessageReader, sqlOf } from "./postgres-messages"
import { splitStatements } from "./statement-log"
import type { DatabaseKind } from "./test-database"
import type { WireStatement } from "./wire-connection"

/**
 * What becomes of a statement. "cut before": it never reaches the server, and the connection is reset; "cut answer": the
 * server carries it out, and the connection is reset in the place of its answer; "lose statement" and "lose answer": the
 * same, but nobody is told, as no more packets pass; `cutAfterMs`: it runs, and the connection is reset so much later.
 */
export type Fate = "cut before" | "cut answer" | "lose statement" | "lose answer" | { readonly cutAfterMs: number }

/** What PostgreSQL gives a connection, and takes to cancel what runs on it. */
export interface BackendKey {
  readonly pid: number
  readonly key: string
}

/** Told of what passes on one connection. */
export interface Observer {
  /** @param statements those that the chunk completes; they may yet be kept from the server */
  fromClient(chunk: Buffer, statements: readonly string[]): void
  /** Called when it is passed on, and not when it is lost, nor where the client has gone. */
  toClient(chunk: Buffer): void
}

/** What the connections of one proxy write down together, and what they are told to do. */
export interface FaultyRecord {
  statements: WireStatement[]
  cancels: (BackendKey & { readonly bytes: number })[]
  readonly keys: Map<number, BackendKey>
  rule: { readonly pattern: RegExp; readonly fate: Fate; times: number } | undefined
  delayMs: number
}

const CANCEL_REQUEST = 80877102

/** Both directions of one proxied connection. */
export class FaultyConnection {
  readonly closed: Promise<void>
  readonly #number: number
  readonly #record: FaultyRecord
  readonly #client: Socket
  readonly #server: Socket
  /** what waits for the silence to end */
  readonly #held: (() => void)[] = []
  #isSilent = false
  #isAbandoned = false
  #isOpen = true
  #cutsAnswer = false

  constructor(
    number: number,
    client: Socket,
    target: { readonly host: string; readonly port: number },
    kind: DatabaseKind,
    record: FaultyRecord,
    delayMs: () => number,
    observer?: Observer,
  ) {
    this.#number = number
    this.#record = record
    this.#client = client
    this.#server = connect({ ...target, noDelay: true })
    const toServer = new DelayLine(delayMs)
    const toClient = new DelayLine(delayMs)
    let fate: Fate | undefined
    let statements: string[] = []
    const found = (sql: string) => {
      for (const one of splitStatements(sql)) {
        record.statements.push({ connection: number, sql: one })
        statements.push(one)
        fate ??= this.#fateOf(one)
      }
    }
    const readClient = kind === "postgres" ? this.#postgresReader(found) : readStatements(found)
    const readServer = kind === "postgres" ? this.#keyReader() : () => undefined

    client.on("data", (chunk) => {
      fate = undefined
      statements = []
      readClient(chunk)
      observer?.fromClient(chunk, statements)
      const itsFate = fate
      toServer.push(() => this.#pass(() => this.#forward(chunk, itsFate)))
    })
    this.#server.on("data", (chunk) => {
      readServer(chunk)
      if (this.#cutsAnswer) return this.reset()
      toClient.push(() =>
        this.#pass(() => {
          if (this.#isOpen) observer?.toClient(chunk)
          this.#client.write(chunk)
        }),
      )
    })
    for (const socket of [client, this.#server]) socket.on("error", () => undefined)
    client.on("close", () => {
      this.#isOpen = false
      toServer.push(() => this.#pass(() => this.#server.destroy()))
    })
    client.on("end", () => toServer.push(() => this.#pass(() => this.#server.end())))
    this.#server.on("end", () => toClient.push(() => this.#pass(() => this.#client.end())))
    this.#server.on("close", () => toClient.push(() => this.#pass(() => this.#client.destroy())))
    this.closed = new Promise((resolve) => {
      this.#server.once("close", () => client.destroyed && resolve())
      client.once("close", () => this.#server.closed && resolve())
    })
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  get isSilent(): boolean {
    return this.#isSilent
  }

  silence(): void {
    this.#isSilent = true
  }

  /** Silent for good; the server's side is ended after a while, as by the server's own keep-alive. */
  abandon(endsAfterMs: number): void {
    this.silence()
    this.#isAbandoned = true
    setTimeout(() => this.#server.destroy(), endsAfterMs)
  }

  resume(): void {
    if (this.#isAbandoned) return
    this.#isSilent = false
    for (const action of this.#held.splice(0)) action()
  }

  reset(): void {
    this.#client.resetAndDestroy()
    this.#server.destroy()
  }

  #pass(action: () => void): void {
    if (this.#isSilent) this.#held.push(action)
    else action()
  }

  #fateOf(sql: string): Fate | undefined {
    const { rule } = this.#record
    if (rule === undefined || rule.times === 0 || !rule.pattern.test(sql)) return undefined
    rule.times -= 1
    return rule.fate
  }

  #forward(chunk: Buffer, fate: Fate | undefined): void {
    if (fate === "cut answer") this.#cutsAnswer = true
    if (fate === "cut before") this.reset()
    else if (fate !== "lose statement") this.#server.write(chunk)
    if (fate === "lose statement" || fate === "lose answer") this.silence()
    else if (typeof fate === "object") setTimeout(() => this.reset(), fate.cutAfterMs)
  }

  #postgresReader(found: (sql: string) => void): (chunk: Buffer) => void {
    const reader = new MessageReader("client")
    return (chunk) => {
      for (const message of reader.read(chunk)) {
        if (message.type === "startup" && message.body.readInt32BE(0) === CANCEL_REQUEST) {
          this.#record.cancels.push({ ...backendKey(message.body.subarray(4)), bytes: message.body.length + 4 })
        } else found(sqlOf(message) ?? "")
      }
    }
  }

  /** The key comes before the first ReadyForQuery; nothing after it is read. */
  #keyReader(): (chunk: Buffer) => void {
    const reader = new MessageReader("server")
    let isReady = false
    return (chunk) => {
      if (isReady) return
      for (const { type, body } of reader.read(chunk)) {
        if (type === "K") this.#record.keys.set(this.#number, backendKey(body))
        if (type === "Z") isReady = true
      }
    }
  }
}

function backendKey(body: Buffer): BackendKey {
  return { pid: body.readInt32BE(0), key: body.toString("hex", 4) }
}
