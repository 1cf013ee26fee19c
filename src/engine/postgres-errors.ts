import { codeOf, failureKind } from "./failure-kind"

/** Whether the server has said it, and not the client by itself. */
export function isServerError(error: unknown): boolean {
  return error instanceof Error && "severity" in error
}

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
