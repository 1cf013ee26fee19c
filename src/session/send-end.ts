import type { AcquireRequest, CommitAnswer, Connection, Engine } from "../engine/connection"
import type { ErrorSink } from "./hooks"
import type { QueryEvents } from "./query-events"
import { outcomeUnknown } from "./transaction-errors"

/** Sends COMMIT. Never rejects; where the answer never came, the connection is ended, and the database asked if it can be. */
export async function sendCommit(
  connection: Connection,
  engine: Engine | undefined,
  request: AcquireRequest,
  events: QueryEvents,
  sink: ErrorSink,
): Promise<CommitAnswer> {
  const answer = await connection.commit()
  // One that was refused may still be open, as on MySQL.
  if (answer.outcome === "rolled back" && connection.isAlive && connection.status !== "none") {
    await sendRollback(connection, events, sink)
  }
  if (answer.outcome !== "unknown") return answer
  connection.end(outcomeUnknown(answer.error))
  const { identity } = connection
  if (identity === undefined || engine?.resolve === undefined) return answer
  const timeoutMs = Math.min(request.answerTimeoutMs, request.timeoutMs)
  return { outcome: await engine.resolve(identity, timeoutMs), error: answer.error }
}

/** Sends ROLLBACK. Never rejects; a connection on which it fails is ended. */
export async function sendRollback(connection: Connection, events: QueryEvents, sink: ErrorSink): Promise<void> {
  events.log("ROLLBACK")
  try {
    await connection.rollback()
  } catch (error) {
    // The server rolls back what was open when the connection ends.
    connection.end(error as Error)
    sink.report(error)
  }
}
