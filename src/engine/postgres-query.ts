/**
 * The begin on the wire together with the first statement, in pg's own terms.
 * Read for this: pg 8.23.1 `lib/query.js` (`prepare`, `handle*`, `_result`), `lib/client.js` (`query` takes anything that has
 * `submit`) and `lib/connection.js` (each message is one write to `stream`). `spec/engine/postgres-query.spec.ts` fails when these change.
 */

interface WireConnection {
  readonly stream: { readonly writable: boolean; write(bytes: Buffer): void }
  parse(message: { text: string }): void
  bind(message: object): void
  execute(message: object): void
}

/** The part of pg's `Query` that is extended here. */
export interface DriverQuery {
  text: string
  callback: unknown
  submit(connection: WireConnection): Error | null
  prepare(connection: WireConnection): void
  requiresPreparation(): boolean
  handleDataRow(message: unknown): void
  handleCommandComplete(message: unknown, connection: WireConnection): void
}

type Callback = (error: Error | undefined, result: unknown) => void

export type DriverQueryConstructor = new (
  text: string,
  values: readonly unknown[] | undefined,
  callback: Callback,
) => DriverQuery

export interface PrefixedQuery extends DriverQuery {
  /** how many of the prefix statements the server has completed */
  readonly prefixCompleted: number
}

export type PrefixedQueryConstructor = new (
  prefix: readonly string[],
  text: string,
  values: readonly unknown[] | undefined,
  callback: Callback,
) => PrefixedQuery

/**
 * Extends pg's `Query`: the prefix statements go in front of the query in one write and up to one `Sync`, so that the server
 * skips the query when one of them fails, and a prefix that succeeded stands when the query fails to parse.
 * The text holds one statement, as in any extended query.
 * @see PostgreSQL 18 manual, 54.2.3 "Extended Query" and 54.2.4 "Pipelining"
 */
export function prefixedQuery(base: DriverQueryConstructor): PrefixedQueryConstructor {
  return class extends base implements PrefixedQuery {
    readonly #prefix: readonly string[]
    #remaining: number

    constructor(prefix: readonly string[], text: string, values: readonly unknown[] | undefined, callback: Callback) {
      super(text, values, callback)
      this.#prefix = prefix
      this.#remaining = prefix.length
    }

    get prefixCompleted(): number {
      return this.#prefix.length - this.#remaining
    }

    override requiresPreparation(): boolean {
      return true
    }

    override prepare(connection: WireConnection): void {
      if (connection.stream.writable) {
        for (const text of this.#prefix) connection.stream.write(messagesOf(text, connection))
      }
      super.prepare(connection)
    }

    override handleDataRow(message: unknown): void {
      if (this.#remaining === 0) super.handleDataRow(message)
    }

    override handleCommandComplete(message: unknown, connection: WireConnection): void {
      if (this.#remaining > 0) this.#remaining--
      else super.handleCommandComplete(message, connection)
    }
  }
}

const CACHE_LIMIT = 100
const messages = new Map<string, Buffer>()

/** The messages that run a statement without parameters; hardly more than one text is ever sent, so they are made once. */
function messagesOf(text: string, connection: WireConnection): Buffer {
  const known = messages.get(text)
  if (known) return known
  const written: Buffer[] = []
  const recorder = Object.create(connection, {
    stream: { value: { writable: true, write: (bytes: Buffer) => written.push(bytes) } },
  }) as WireConnection
  recorder.parse({ text })
  recorder.bind({})
  recorder.execute({})
  const bytes = Buffer.concat(written)
  if (messages.size < CACHE_LIMIT) messages.set(text, bytes)
  return bytes
}
