import { QueryFailedError } from "typeorm"
import { failureKind } from "../engine/failure-kind"
import { TransactionAbortedError } from "../errors"
import type { ResolvedSessionOptions } from "./options"
import { type Session, unitOf } from "./session"

/**
 * Gives `fn` a session and ends it: commits when `fn` resolves, rolls back when it rejects, closes in any case. Runs `fn`
 * again, on a new session, after a serialization failure or deadlock, as often as `options.retries` says.
 * @param mayRepeat whether nothing of it is committed that another session did
 */
export async function runManaged<T>(
  open: () => Session | Promise<Session>,
  options: ResolvedSessionOptions,
  fn: (session: Session) => T | Promise<T>,
  mayRepeat: () => boolean = () => true,
): Promise<T> {
  for (let retriesLeft = options.retries; ; retriesLeft--) {
    const session = await open()
    try {
      const result = await fn(session)
      if (options.commit === "manual") await session.close()
      else await unitOf(session).complete()
      return result
    } catch (error) {
      await session.close()
      if (retriesLeft <= 0 || unitOf(session).hasCommitted || !mayRepeat() || !isRetryable(error)) throw error
    }
  }
}

/** Whether the same work may succeed when it is done again from its begin: a serialization failure, or a lost connection. */
export function isRetryable(error: unknown): boolean {
  const failure = error instanceof TransactionAbortedError ? error.cause : error
  if (!(failure instanceof QueryFailedError)) return false
  const kind = failureKind(failure.driverError)
  return kind === "serialization" || kind === "unavailable"
}
