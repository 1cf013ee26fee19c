import { codeOf, failureKind, isServerError } from "./failure-kind"

/** The server shuts down or crashed, the database was dropped, or a time limit on idleness or the transaction is over. */
const FATAL_CODE = /^(57P0[1-5]|25P0[34])$/

/** After FATAL or PANIC the server ends the connection, whatever the socket says yet. */
export function isFatal(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  // The server words the severity in its own language; the codes say the same in all.
  if ("severity" in error)
    return /^(FATAL|PANIC)$/.test(String(error.severity)) || FATAL_CODE.test(String(codeOf(error)))
  return failureKind(error) === "unavailable"
}

/** An administrator, or a limit on idleness, has ended the backend. */
const ENDED_CODE = /^(57P01|57P05|25P0[34])$/

/**
 * Whether the server ended the backend before it came to what was sent last. It looks for such an order only between two
 * statements or within one, never between a COMMIT that is done and its answer, which would come before this error
 * (PostgreSQL 18 `tcop/postgres.c`, `exec_simple_query` and `ProcessInterrupts`).
 */
export function isEndedByServer(error: unknown): boolean {
  return isServerError(error) && ENDED_CODE.test(String(codeOf(error)))
}
