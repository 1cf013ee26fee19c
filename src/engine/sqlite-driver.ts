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
}

/** The part of TypeORM 1.1.1's `BetterSqlite3Driver` that is used; `createDatabaseConnection` is protected there. */
export interface SqliteDriver {
  readonly databaseConnection: Handle
  readonly attachedDatabases: Readonly<Record<string, { attachHandle: string; attachFilepathAbsolute: string }>>
  createDatabaseConnection(): Promise<Handle>
}
