import type { SessionClosedError } from "../errors"
import type { ErrorSink } from "./hooks"

/** What a session is told of its surroundings. */
export interface SessionContext extends ErrorSink {
  /** SQLite: whether it takes the write lock when it begins */
  readonly asWriter: boolean
  /** ms after which a transaction that is still open is reported once; default never */
  readonly warnAfterMs?: number | undefined
  /** @returns who uses it, such as "GET /users/:userId" */
  label(): string
  /** takes the errors of statements that came after the end; they reject as well */
  reportLate?(error: SessionClosedError): void
  /** Called when work of it is committed, or may be. */
  workCommitted?(): void
  /** @returns what is set in the database for one transaction; asked for at each begin */
  variables?(): Readonly<Record<string, string>> | undefined
}
