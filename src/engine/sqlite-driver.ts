import { QueryResult } from "typeorm"

/** The part of a better-sqlite3 statement that is used. */
export interface Statement {
  readonly reader: boolean
  readonly readonly: boolean
  all(...parameters: unknown[]): unknown[]
  run(...parameters: unknown[]): { changes: number; lastInsertRowid: number | bigint }
}

/** The part of a better-sqlite3 database that is used. */
export interface Handle {
  readonly open: boolean
  readonly inTransaction: boolean
  prepare(text: string): Statement
  pragma(text: string): unknown
  close(): void
  /** lets it run statements while somebody iterates over a result */
  unsafeMode(isUnsafe: boolean): unknown
}

/** The part of TypeORM 1.1.1's `BetterSqlite3Driver` that is used; `createDatabaseConnection` is protected there. */
export interface SqliteDriver {
  readonly databaseConnection: Handle
  readonly attachedDatabases: Readonly<Record<string, { attachHandle: string; attachFilepathAbsolute: string }>>
  createDatabaseConnection(): Promise<Handle>
}

/** Runs the statement. better-sqlite3 binds no booleans; TypeORM's own runner turns them into 0 and 1, too. */
export function toQueryResult(statement: Statement, parameters: readonly unknown[] | undefined): QueryResult {
  const values = parameters?.map((value) => (typeof value === "boolean" ? Number(value) : value)) ?? []
  const result = new QueryResult()
  if (statement.reader) {
    const rows = statement.all(...values)
    result.raw = rows
    result.records = rows as Record<string, unknown>[]
  } else {
    const { changes, lastInsertRowid } = statement.run(...values)
    result.affected = changes
    result.raw = lastInsertRowid
  }
  return result
}
