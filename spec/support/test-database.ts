export type DatabaseKind = "sqlite" | "postgres" | "mysql"

export type Row = Record<string, unknown>

/** A raw driver connection that shares nothing with the library: what it reads is really in the database. */
export interface SecondConnection {
  /** @param params for `?` on SQLite and MySQL, for `$1` on PostgreSQL */
  query(sql: string, params?: readonly unknown[]): Promise<Row[]>
  close(): Promise<void>
}

/** A fresh and empty database of one spec. */
export interface CreatedDatabase {
  readonly uri: string
  /** Opens an independent connection; `drop()` closes it if the spec did not. Rejects for SQLite in memory. */
  open(): Promise<SecondConnection>
  /** Disconnects everybody and removes the database. */
  drop(): Promise<void>
}

export interface TestDatabase {
  readonly name: "SQLite file" | "SQLite memory" | "PostgreSQL" | "MariaDB/MySQL"
  readonly kind: DatabaseKind
  /** true for the SQLite database that more than one connection can see. */
  readonly isFile?: boolean
  readonly available: boolean
  readonly skipReason?: string
  createDatabase(): Promise<CreatedDatabase>
  /** Version of the server, for the report at the end of the run. */
  version(): Promise<string>
}

let created = 0

/** A database name that two runs on one server cannot share. */
export function uniqueDatabaseName(): string {
  created += 1
  return `spec_${process.pid}_${Date.now().toString(36)}_${created}`
}

/** The same server, another database. */
export function withDatabase(uri: string, name: string): string {
  const url = new URL(uri)
  url.pathname = `/${name}`
  return url.href
}

/** Remembers the second connections of one database, so that `drop()` can close those that a failed spec left open. */
export class OpenConnections {
  readonly #open = new Set<SecondConnection>()

  add(connection: SecondConnection): SecondConnection {
    const tracked: SecondConnection = {
      query: (sql, params) => connection.query(sql, params),
      close: async () => {
        if (this.#open.delete(tracked)) await connection.close()
      },
    }
    this.#open.add(tracked)
    return tracked
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#open].map((connection) => connection.close()))
  }
}
