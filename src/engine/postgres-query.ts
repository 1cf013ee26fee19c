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
  sync(): void
}

/** The part of pg's `Query` that is extended here. */
export interface DriverQuery {
  text: string
  callback: unknown
  submit(connection: WireConnection): Error | null
  prepare(connection: WireConnection): void
  requiresPreparation(): boolean
  handleDataRow(message: DataRow): void
  handleCommandComplete(message: unknown, connection: WireConnection): void
  handleCopyInResponse(connection: WireConnection): void
}

interface DataRow {
  readonly fields: readonly unknown[]
}

type Callback = (error: Error | undefined, result: unknown) => void

export type DriverQueryConstructor = new (
  text: string,
  values: readonly unknown[] | undefined,
  callback: Callback,
) => DriverQuery

/** Hears how far the server has come with the prefix. */
export interface PrefixListener {
  /**
   * Called with each statement that the server has carried out.
   * @param completed how many they are now
   * @param row the first column of the last row that any of them gave
   */
  prefixAnswered(completed: number, row: unknown): void
}

export type PrefixedQueryConstructor = new (
  prefix: readonly string[],
  listener: PrefixListener,
  text: string,
  values: readonly unknown[] | undefined,
  callback: Callback,
) => DriverQuery

/**
 * Extends pg's `Query`: the prefix statements go in front of the query in one write and up to one `Sync`, so that the server
 * skips the query when one of them fails, and a prefix that succeeded stands when the query fails to parse. A `Flush` behind
 * the prefix makes the server answer it at once: a connection that does not is known to be dead, however long the query takes.
 * The text holds one statement, as in any extended query.
 * @see PostgreSQL 18 manual, 54.2.3 "Extended Query" and 54.2.4 "Pipelining"
 */
export function prefixedQuery(base: DriverQueryConstructor): PrefixedQueryConstructor {
  return class extends base {
    readonly #prefix: readonly string[]
    readonly #listener: PrefixListener
    #remaining: number
    #row: unknown

    constructor(
      prefix: readonly string[],
      listener: PrefixListener,
      text: string,
      values: readonly unknown[] | undefined,
      callback: Callback,
    ) {
      super(text, values, callback)
      this.#prefix = prefix
      this.#listener = listener
      this.#remaining = prefix.length
    }

    override requiresPreparation(): boolean {
      return true
    }

    override prepare(connection: WireConnection): void {
      if (connection.stream.writable) {
        connection.stream.write(messagesOf(this.#prefix, connection))
      }
      super.prepare(connection)
    }

    override handleDataRow(message: DataRow): void {
      if (this.#remaining === 0) super.handleDataRow(message)
      else this.#row = message.fields[0]
    }

    override handleCommandComplete(message: unknown, connection: WireConnection): void {
      if (this.#remaining === 0) {
        super.handleCommandComplete(message, connection)
        return
      }
      this.#remaining--
      this.#listener.prefixAnswered(this.#prefix.length - this.#remaining, this.#row)
    }

    /** The server has passed over the `Sync` behind a COPY, and waits for another one (manual, 54.2.6 "COPY Operations"). */
    override handleCopyInResponse(connection: WireConnection): void {
      super.handleCopyInResponse(connection)
      connection.sync()
    }
  }
}

/** The message `Flush`: its type and its length. */
const FLUSH = Buffer.from([0x48, 0, 0, 0, 4])
const CACHE_LIMIT = 100
const messages = new Map<string, Buffer>()

/** The messages that run statements without parameters; hardly more than one prefix is ever sent, so they are made once. */
function messagesOf(prefix: readonly string[], connection: WireConnection): Buffer {
  const key = prefix.join("\0")
  const known = messages.get(key)
  if (known) return known
  const written: Buffer[] = []
  const recorder = Object.create(connection, {
    stream: { value: { writable: true, write: (bytes: Buffer) => written.push(bytes) } },
  }) as WireConnection
  for (const text of prefix) {
    recorder.parse({ text })
    recorder.bind({})
    recorder.execute({})
  }
  const bytes = Buffer.concat([...written, FLUSH])
  if (messages.size < CACHE_LIMIT) messages.set(key, bytes)
  return bytes
}
