import { QueryFailedError } from "typeorm"
import type { Outcome } from "../engine/connection"
import { CommitOutcomeUnknownError, SessionError, TransactionAbortedError } from "../errors"

/** What is in the database of a transaction that goes on no more. */
const KEPT: Readonly<Record<Outcome, string>> = {
  committed: "what came before it was committed by the database itself, as DDL and a raw COMMIT make it",
  "rolled back": "nothing of it is kept",
  unknown: "what of it is kept is not known",
}

/** @param cause the error of the statement that failed first */
export function abortedError(
  what: string,
  isLost: boolean,
  outcome: Outcome | undefined,
  cause: unknown,
): TransactionAbortedError {
  const reason = isLost ? "its connection was lost" : "an earlier statement in it failed"
  return new TransactionAbortedError(
    `${what} was refused: the transaction is aborted, because ${reason}, and ${KEPT[outcome ?? "rolled back"]}. ` +
      "Let the error through, call rollback() before going on, or put what may fail into db.transaction(...), " +
      "which is a savepoint.",
    { cause },
  )
}

/** The driver's error as TypeORM gives it to the application; this package's own errors stay as they are. */
export function statementError(text: string, parameters: readonly unknown[] | undefined, error: unknown): Error {
  if (error instanceof SessionError) return error
  return new QueryFailedError(text, parameters as unknown[] | undefined, error as Error)
}

export function outcomeUnknown(cause: unknown): CommitOutcomeUnknownError {
  return new CommitOutcomeUnknownError(
    "COMMIT was sent and its answer never came: whether the transaction was committed is not known. " +
      "Before the request is tried again, look whether its work is there; on PostgreSQL resolveCommits: true asks the server.",
    { cause },
  )
}

export function undoneError(): TransactionAbortedError {
  return new TransactionAbortedError(
    "The session was closed from outside before its work was done, and what it had written is rolled back: its " +
      "SessionMaker was closed and did not wait longer. Give maker.close() a longer timeoutMs, or make the work shorter.",
  )
}
