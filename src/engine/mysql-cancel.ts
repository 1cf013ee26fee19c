import { codeOf } from "./failure-kind"
import { CancelNotSentError } from "./pool"

/** The part of a mysql2 connection that is used. */
interface Canceller {
  readonly stream: { destroy(): void }
  query(text: string, values: undefined, callback: (error: Error | null, result: unknown) => void): void
  on(event: "error", listener: () => void): void
  destroy(): void
}

/** How long opening a connection and asking for a cancel over it may take. */
const TIMEOUT_MS = 2_000
/** What the server says that it is running on a connection. */
const RUNNING = "SELECT INFO AS text FROM information_schema.PROCESSLIST WHERE ID = "

/**
 * Asks the server to stop what runs on a connection, over another one, as the pool's may all be busy. A balancer may stand at the
 * address and lead to another server, so that it is first asked whether it runs the statement on a connection of that number.
 * Where that connection is idle, the statement has ended meanwhile.
 * @param canceller opened for this, to the address of that very connection; ended here
 * @param text of the statement, with the values in it
 * @throws {CancelNotSentError} where the server cannot be reached in 2 s, or is another one
 * @throws what else goes wrong: whether the statement is stopped is then not known
 */
export async function killQuery(canceller: Canceller, threadId: number, text: string): Promise<void> {
  canceller.on("error", () => undefined)
  const ask = (question: string) =>
    new Promise<unknown>((resolve, reject) => {
      canceller.query(question, undefined, (error, result) => (error ? reject(error) : resolve(result)))
    })
  const timer = setTimeout(() => canceller.stream.destroy(), TIMEOUT_MS)
  try {
    const rows = await ask(`${RUNNING}${threadId}`).catch((error: unknown) => {
      throw new CancelNotSentError(`The server could not be asked: ${String(error)}`)
    })
    const [row] = rows as { text: string | null }[]
    if (row?.text === null) return
    if (row?.text.trim() !== text.trim()) {
      throw new CancelNotSentError("The address of the connection leads to a server that does not run its statement.")
    }
    await ask(`KILL QUERY ${threadId}`)
  } catch (error) {
    if (codeOf(error) !== "ER_NO_SUCH_THREAD") throw error
  } finally {
    clearTimeout(timer)
    canceller.destroy()
  }
}
