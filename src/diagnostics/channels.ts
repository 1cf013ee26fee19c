import { channel } from "node:diagnostics_channel"

/**
 * What happens to sessions, for `node:diagnostics_channel`. Payloads are frozen and hold no SQL and no parameter. Where nobody
 * has subscribed to a channel, nothing is computed for it. Node ends the process for a subscriber that throws, as it does
 * for any uncaught error; the request itself does not see it.
 */

/** Of every payload. */
export interface SessionEvent {
  /** unique in this process */
  readonly sessionId: number
  /** who uses the session: method and route, or the call that opened it */
  readonly label: string
}

/** Payload of `session.closed`. */
export interface SessionClosedEvent extends SessionEvent {
  /** ms since it was opened */
  readonly durationMs: number
}

/** Payload of `transaction.begun`: the server has answered the begin, or is sent the first of the reads whose begin is put off. */
export interface TransactionEvent extends SessionEvent {
  /** unique in this process */
  readonly transactionId: number
  /** ms from the first statement's call to the connection being there */
  readonly waitMs: number
}

/** Payload of `transaction.committed`, `transaction.rolledBack` and `transaction.failed`. */
export interface TransactionEndedEvent extends TransactionEvent {
  /** ms since the transaction asked for its connection */
  readonly durationMs: number
  /** whether it may have changed something */
  readonly wrote: boolean
}

/** Payload of `transaction.failed`: the commit was refused or not answered, or the connection was lost. */
export interface TransactionFailedEvent extends TransactionEndedEvent {
  readonly errorName: string
  /** what became of its work: "unknown" where COMMIT was sent and not answered */
  readonly outcome: "committed" | "rolled back" | "unknown"
}

/** Payload of `statement.refused`: a statement came after the end of its session. */
export interface StatementRefusedEvent extends SessionEvent {
  /** how many there were so far, in all sessions of the maker */
  readonly count: number
}

const PREFIX = "routing-controllers-typeorm"

export const sessionOpened = channel(`${PREFIX}:session.opened`)
export const sessionClosed = channel(`${PREFIX}:session.closed`)
export const transactionBegun = channel(`${PREFIX}:transaction.begun`)
export const transactionCommitted = channel(`${PREFIX}:transaction.committed`)
export const transactionRolledBack = channel(`${PREFIX}:transaction.rolledBack`)
export const transactionFailed = channel(`${PREFIX}:transaction.failed`)
export const statementRefused = channel(`${PREFIX}:statement.refused`)
