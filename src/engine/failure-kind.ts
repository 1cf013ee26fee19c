/** What a failed statement or connection means to the caller, whatever database it came from. */
export type FailureKind =
  | "conflict"
  | "malformed"
  | "serialization"
  | "lock-timeout"
  | "statement-timeout"
  | "unavailable"
  | "other"

const NETWORK = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EPIPE",
  "ENOENT",
  "PROTOCOL_CONNECTION_LOST",
  "PROTOCOL_ENQUEUE_AFTER_FATAL_ERROR",
  "PROTOCOL_ENQUEUE_AFTER_QUIT",
  "SQLITE_CANTOPEN",
])

/** The messages of pg, pg-pool and mysql2 that come without a code (pg 8.23, pg-pool 3.10, mysql2 3.24). */
const LOST_MESSAGE =
  /^(Connection terminated|timeout expired|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed|Cannot use a pool after|Pool is closed|Can't add new command when connection is in closed state)/

/** @see PostgreSQL 18 manual, appendix A "PostgreSQL Error Codes" */
const SQLSTATE: Readonly<Record<string, FailureKind>> = {
  "23505": "conflict",
  "23P01": "conflict",
  "23503": "conflict",
  "23001": "conflict",
  "23502": "malformed",
  "23514": "malformed",
  "23513": "malformed",
  "40001": "serialization",
  "40P01": "serialization",
  "55P03": "lock-timeout",
  "57014": "statement-timeout",
  "25P03": "unavailable",
  "25P04": "statement-timeout",
  "57P01": "unavailable",
  "57P02": "unavailable",
  "57P03": "unavailable",
  "57P05": "unavailable",
  "3D000": "unavailable",
}

/** Classes of which every code means the same: 08 connection, 22 data exception, 28 authorization, 53 resources. */
const SQLSTATE_CLASS: Readonly<Record<string, FailureKind>> = {
  "08": "unavailable",
  "22": "malformed",
  "28": "unavailable",
  "53": "unavailable",
}

/** @see SQLite "Result and Error Codes" */
const SQLITE: Readonly<Record<string, FailureKind>> = {
  SQLITE_CONSTRAINT_UNIQUE: "conflict",
  SQLITE_CONSTRAINT_PRIMARYKEY: "conflict",
  SQLITE_CONSTRAINT_ROWID: "conflict",
  SQLITE_CONSTRAINT_FOREIGNKEY: "conflict",
  SQLITE_CONSTRAINT_NOTNULL: "malformed",
  SQLITE_CONSTRAINT_CHECK: "malformed",
  SQLITE_CONSTRAINT_DATATYPE: "malformed",
  SQLITE_MISMATCH: "malformed",
  SQLITE_TOOBIG: "malformed",
  SQLITE_BUSY: "lock-timeout",
  SQLITE_BUSY_TIMEOUT: "lock-timeout",
  SQLITE_BUSY_SNAPSHOT: "serialization",
  SQLITE_LOCKED: "lock-timeout",
}

/** @see MariaDB "Error Codes"; MySQL 8.4 "Server Error Message Reference" */
const MYSQL: Readonly<Record<string, FailureKind>> = {
  ER_DUP_ENTRY: "conflict",
  ER_DUP_ENTRY_WITH_KEY_NAME: "conflict",
  ER_NO_REFERENCED_ROW: "conflict",
  ER_NO_REFERENCED_ROW_2: "conflict",
  ER_ROW_IS_REFERENCED: "conflict",
  ER_ROW_IS_REFERENCED_2: "conflict",
  ER_BAD_NULL_ERROR: "malformed",
  ER_NO_DEFAULT_FOR_FIELD: "malformed",
  ER_DATA_TOO_LONG: "malformed",
  ER_DATA_OUT_OF_RANGE: "malformed",
  ER_WARN_DATA_OUT_OF_RANGE: "malformed",
  ER_TRUNCATED_WRONG_VALUE: "malformed",
  ER_TRUNCATED_WRONG_VALUE_FOR_FIELD: "malformed",
  WARN_DATA_TRUNCATED: "malformed",
  ER_CHECK_CONSTRAINT_VIOLATED: "malformed",
  ER_CONSTRAINT_FAILED: "malformed",
  ER_INVALID_JSON_TEXT: "malformed",
  ER_LOCK_DEADLOCK: "serialization",
  ER_CHECKREAD: "serialization",
  ER_LOCK_WAIT_TIMEOUT: "lock-timeout",
  ER_LOCK_NOWAIT: "lock-timeout",
  ER_QUERY_TIMEOUT: "statement-timeout",
  ER_STATEMENT_TIMEOUT: "statement-timeout",
  ER_QUERY_INTERRUPTED: "statement-timeout",
  ER_CON_COUNT_ERROR: "unavailable",
  ER_ACCESS_DENIED_ERROR: "unavailable",
  ER_DBACCESS_DENIED_ERROR: "unavailable",
  ER_BAD_DB_ERROR: "unavailable",
  ER_SERVER_SHUTDOWN: "unavailable",
  ER_CONNECTION_KILLED: "unavailable",
  ER_NORMAL_SHUTDOWN: "unavailable",
}

/** Number and SQL state of MariaDB's errors that mysql2 3.24 does not know, or takes for one of MySQL's. */
const MARIADB: Readonly<Record<string, FailureKind>> = {
  // KILL, while a statement runs
  "1927 70100": "unavailable",
  // max_statement_time
  "1969 70100": "statement-timeout",
  // a check constraint
  "4025 23000": "malformed",
}

/** @param error what the driver threw: not TypeORM's `QueryFailedError` but its `driverError` */
export function failureKind(error: unknown): FailureKind {
  const { errno, sqlState } = (error ?? {}) as { errno?: unknown; sqlState?: unknown }
  const ofMariaDb = MARIADB[`${errno} ${sqlState}`]
  if (ofMariaDb !== undefined) return ofMariaDb
  const code = codeOf(error)
  if (code === undefined) {
    return error instanceof Error && LOST_MESSAGE.test(error.message) ? "unavailable" : "other"
  }
  return (
    (NETWORK.has(code) ? "unavailable" : undefined) ??
    SQLSTATE[code] ??
    SQLITE[code] ??
    MYSQL[code] ??
    (/^[0-9A-Z]{5}$/.test(code) ? SQLSTATE_CLASS[code.slice(0, 2)] : undefined) ??
    "other"
  )
}

/** Whether the server has said it, and not the driver, or a stream, by itself. */
export function isServerError(error: unknown): boolean {
  return error instanceof Error && ("severity" in error || "sqlState" in error)
}

/** @returns the driver's code; for an `AggregateError` (a host with several addresses) that of its first error */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined
  if ("code" in error && typeof error.code === "string") return error.code
  if (error instanceof AggregateError) return codeOf(error.errors[0])
  return undefined
}
