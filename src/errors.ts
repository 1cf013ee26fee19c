/**
 * Every error that this package raises. Two families, as in SQLAlchemy's `exc`: `SessionUsageError` is a mistake of the
 * program, the same every time; `SessionRuntimeError` comes from load, network or database and may pass on retry.
 * Errors of the driver and of TypeORM pass through unwrapped, so `instanceof QueryFailedError` goes on working.
 */

/** Base of all errors of this package. `code` is API: it is never reused, and each has a section in `docs/errors.md`. */
export abstract class SessionError extends Error {
  abstract readonly code: string

  override get name(): string {
    return this.constructor.name
  }
}

/** The program is wrong: the same call fails the same way every time. */
export abstract class SessionUsageError extends SessionError {}

/** Load, network or database: the same call may succeed later. */
export abstract class SessionRuntimeError extends SessionError {}

/** A statement, `commit()` or `rollback()` came after the session was closed. Nothing was sent, no connection was taken. */
export class SessionClosedError extends SessionUsageError {
  readonly code = "ERR_SESSION_CLOSED"
}

/** No request scope (or, for `currentSession()`, no ambient session) where one was asked for. */
export class SessionScopeError extends SessionUsageError {
  readonly code = "ERR_SESSION_SCOPE"
}

/** A call that the session's present state refuses, such as `commit()` inside a `transaction()` block. State unchanged. */
export class SessionStateError extends SessionUsageError {
  readonly code = "ERR_SESSION_STATE"
}

/** An option that is unknown, out of range, or in conflict with another one. */
export class SessionOptionsError extends SessionUsageError {
  readonly code = "ERR_SESSION_OPTIONS"
}

/** A database URI that cannot be understood. The message holds no password. */
export class DatabaseUriError extends SessionUsageError {
  readonly code = "ERR_SESSION_DATABASE_URI"
}

/** The driver package of the database is not installed. */
export class DriverNotInstalledError extends SessionUsageError {
  readonly code = "ERR_SESSION_DRIVER_NOT_INSTALLED"
}

/** Environment variables are missing or invalid; lists every one by name and prints no value. */
export class SettingsError extends SessionUsageError {
  readonly code = "ERR_SESSION_SETTINGS"

  /** @param variables names of the environment variables at fault, in order of declaration */
  constructor(
    message: string,
    readonly variables: readonly string[],
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** A value that is no GUID was given where a GUID column is; refused before it reached the database. */
export class InvalidGuidError extends SessionUsageError {
  readonly code = "ERR_SESSION_INVALID_GUID"
}

/**
 * The transaction was lost: a statement in it had failed and was not rolled back to a savepoint, or its connection died.
 * Nothing of it is in the database. `cause` is the first failure. `rollback()` makes the session usable again.
 */
export class TransactionAbortedError extends SessionRuntimeError {
  readonly code = "ERR_SESSION_TRANSACTION_ABORTED"
}

/**
 * COMMIT was sent and its answer never came: the connection was lost, or time ran out. Whether the work is stored is not known,
 * so no `afterRollback` function runs and nothing is tried again. Look for the work before doing it again; with the maker's
 * option `resolveCommits` PostgreSQL is asked. `cause` is what ended the wait.
 */
export class CommitOutcomeUnknownError extends SessionRuntimeError {
  readonly code = "ERR_SESSION_COMMIT_OUTCOME_UNKNOWN"
}

/**
 * The request used several databases, and the commit of one failed after the work of others had been committed: that stays.
 * Names are those of typedi's container. `cause` is the error of the commit that failed.
 */
export class PartialCommitError extends SessionRuntimeError {
  readonly code = "ERR_SESSION_PARTIAL_COMMIT"

  /**
   * @param committed names of the makers whose work stays, in the order of their commits
   * @param failed name of the maker whose work was rolled back
   */
  constructor(
    message: string,
    readonly committed: readonly string[],
    readonly failed: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** No connection became free within `acquireTimeoutMs`. No slot of the pool is lost. */
export class AcquireTimeoutError extends SessionRuntimeError {
  readonly code = "ERR_SESSION_ACQUIRE_TIMEOUT"
}

/** The database could not be reached, refused the connection, or ended it. `cause` is the driver's error. */
export class DatabaseUnavailableError extends SessionRuntimeError {
  readonly code = "ERR_SESSION_DATABASE_UNAVAILABLE"
}

/** The maker is closing or closed and opens no more sessions. */
export class SessionMakerClosedError extends SessionRuntimeError {
  readonly code = "ERR_SESSION_MAKER_CLOSED"
}

/** A transaction was held longer than `warnAfterMs`. Only reported, never thrown: the transaction goes on. */
export class TransactionHeldError extends SessionRuntimeError {
  readonly code = "ERR_SESSION_TRANSACTION_HELD"
}
