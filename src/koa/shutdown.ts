import type { Server } from "node:http"
import type { SessionMaker } from "../session/session-maker"

export interface ShutdownOptions {
  /** ms until what is left is rolled back and cut off; default 10 000 */
  readonly timeoutMs?: number
}

const IDLE_CHECK_MS = 50

/**
 * Stops a server without losing work: takes no new connections, lets the requests in flight finish and commit, closes the
 * makers. Past the deadline, open sessions are rolled back and their connections to clients are cut. The process can then end
 * by itself. Never rejects for what a request does; rejects where a `DataSource` cannot be destroyed.
 * @param server Node's server; one that does not listen is left alone
 * @param makers one or several; each is closed for good
 * @returns whether everything had finished before the deadline
 */
export async function shutdown(
  server: Server,
  makers: SessionMaker | Iterable<SessionMaker>,
  { timeoutMs = 10_000 }: ShutdownOptions = {},
): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  const all = Symbol.iterator in makers ? [...makers] : [makers]
  const hasFinished = await stopServer(server, timeoutMs)
  const remainingMs = Math.max(1, Math.round(deadline - performance.now()))
  const closed = Promise.all(all.map((maker) => maker.close({ timeoutMs: hasFinished ? remainingMs : 1 })))
  if (!hasFinished) server.closeAllConnections()
  await closed
  return hasFinished
}

/** @returns false where requests were still in flight at the deadline */
function stopServer(server: Server, timeoutMs: number): Promise<boolean> {
  if (!server.listening) return Promise.resolve(true)
  return new Promise((resolve) => {
    const settle = (hasFinished: boolean) => {
      clearTimeout(timer)
      clearInterval(idle)
      resolve(hasFinished)
    }
    const timer = setTimeout(() => settle(false), timeoutMs)
    // A client may hold its connection open after its last answer.
    const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS)
    server.close(() => settle(true))
    server.closeIdleConnections()
  })
}
