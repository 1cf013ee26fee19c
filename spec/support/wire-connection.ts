import { connect, type Socket } from "node:net"
import { DelayLine } from "./delay-line"
import { expectsReady, MessageReader, type PostgresMessage, sqlOf } from "./postgres-messages"
import { splitStatements } from "./statement-log"

export interface WireStatement {
  readonly connection: number
  readonly sql: string
}

/** What the connections of one proxy write down together, and what they are told to do. */
export interface WireRecord {
  statements: WireStatement[]
  flights: number
  delayMs: number
  cutOn: { readonly pattern: RegExp; readonly when: "before" | "after" } | undefined
}

/** Both directions of one proxied connection. */
export class WireConnection {
  readonly closed: Promise<void>
  readonly #number: number
  readonly #record: WireRecord
  readonly #client: Socket
  readonly #server: Socket
  readonly #fromClient = new MessageReader("client")
  readonly #fromServer = new MessageReader("server")
  /** The flight of each request whose ReadyForQuery the client has not heard yet. */
  readonly #waiting: number[] = []
  #flightsStarted = 0
  #flightsHeard = 0
  #authenticated = false
  #ended = false
  #destroyBeforeAnswer = false

  constructor(number: number, client: Socket, target: { host: string; port: number }, record: WireRecord) {
    this.#number = number
    this.#record = record
    this.#client = client
    this.#server = connect({ ...target, noDelay: true })
    client.setNoDelay(true)
    const toServer = new DelayLine(() => record.delayMs)
    const toClient = new DelayLine(() => record.delayMs)

    client.on("data", (chunk) => {
      for (const message of this.#fromClient.read(chunk)) this.#noteRequest(message)
      toServer.push(() => this.#server.write(chunk))
    })
    this.#server.on("data", (chunk) => {
      if (this.#destroyBeforeAnswer) return this.destroy()
      // The single byte that answers an SSL request is no message; it is passed on unread.
      const isNegotiation = !this.#authenticated && chunk.length === 1
      const ready = isNegotiation ? 0 : this.#fromServer.read(chunk).filter(({ type }) => type === "Z").length
      toClient.push(() => {
        this.#noteReady(ready)
        this.#client.write(chunk)
      })
    })
    client.on("end", () => toServer.push(() => this.#server.end()))
    this.#server.on("end", () => toClient.push(() => this.#client.end()))
    for (const socket of [client, this.#server]) {
      socket.on("error", () => this.destroy())
      socket.on("end", () => {
        this.#ended = true
      })
    }
    this.#server.on("close", () => toClient.push(() => this.#client.destroy()))
    this.closed = new Promise((resolve) => {
      client.once("close", () => {
        this.#server.destroy()
        resolve()
      })
    })
  }

  /** false as soon as either side has said that it ends. */
  get isOpen(): boolean {
    return !this.#ended && !this.#client.destroyed
  }

  destroy(): void {
    this.#client.destroy()
    this.#server.destroy()
  }

  #noteRequest(message: PostgresMessage): void {
    for (const sql of splitStatements(sqlOf(message) ?? "")) {
      this.#record.statements.push({ connection: this.#number, sql })
      this.#cutIfAsked(sql)
    }
    if (!this.#authenticated || !expectsReady(message)) return
    const flight = this.#flightsHeard + 1
    if (flight > this.#flightsStarted) {
      this.#flightsStarted = flight
      this.#record.flights += 1
    }
    this.#waiting.push(flight)
  }

  #noteReady(count: number): void {
    for (let heard = 0; heard < count; heard++) {
      // The first one ends the authentication and answers no statement.
      if (this.#authenticated) this.#flightsHeard = Math.max(this.#flightsHeard, this.#waiting.shift() ?? 0)
      this.#authenticated = true
    }
  }

  #cutIfAsked(sql: string): void {
    if (this.#record.cutOn?.pattern.test(sql) !== true) return
    const { when } = this.#record.cutOn
    this.#record.cutOn = undefined
    if (when === "before") this.destroy()
    else this.#destroyBeforeAnswer = true
  }
}
