/** One message of the PostgreSQL protocol. `type` is its letter, or "startup" for those that have none. */
export interface PostgresMessage {
  readonly type: string
  readonly body: Buffer
}

const sslRequest = 80877103
const gssEncryptionRequest = 80877104

/**
 * Cuts the bytes of one direction of a connection into PostgreSQL messages.
 * @see PostgreSQL 18 manual, section 54.7 "Message Formats"
 */
export class MessageReader {
  #rest: Buffer = Buffer.alloc(0)
  #untyped: boolean

  /** @param side a client opens with messages that carry no letter, a server never does */
  constructor(side: "client" | "server") {
    this.#untyped = side === "client"
  }

  /** @returns the messages that are complete by now; a part of one is kept for the next call */
  read(chunk: Buffer): PostgresMessage[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const messages: PostgresMessage[] = []
    for (let message = this.#next(); message !== undefined; message = this.#next()) messages.push(message)
    return messages
  }

  #next(): PostgresMessage | undefined {
    const head = this.#untyped ? 0 : 1
    if (this.#rest.length < head + 4) return undefined
    const end = head + this.#rest.readInt32BE(head)
    if (this.#rest.length < end) return undefined
    const type = this.#untyped ? "startup" : String.fromCharCode(this.#rest[0] ?? 0)
    const body = this.#rest.subarray(head + 4, end)
    this.#rest = this.#rest.subarray(end)
    if (this.#untyped) {
      const code = body.length >= 4 ? body.readInt32BE(0) : 0
      this.#untyped = code === sslRequest || code === gssEncryptionRequest
    }
    return { type, body }
  }
}

/** The SQL of a Query or Parse message, `undefined` for any other. */
export function sqlOf({ type, body }: PostgresMessage): string | undefined {
  if (type === "Q") return cString(body, 0)
  if (type === "P") return cString(body, body.indexOf(0) + 1)
  return undefined
}

/** True for the messages that a server answers with one ReadyForQuery: Query, Sync, FunctionCall. */
export function expectsReady({ type }: PostgresMessage): boolean {
  return type === "Q" || type === "S" || type === "F"
}

function cString(body: Buffer, start: number): string {
  return body.toString("utf8", start, body.indexOf(0, start))
}
