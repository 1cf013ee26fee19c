/** What a query parameter without a name of its own in TypeORM becomes; given to the driver as it is. */
type Extra = Readonly<Record<string, string | number | boolean>>

interface ServerOptions {
  readonly host: string
  readonly port: number
  readonly username?: string
  readonly password?: string
  readonly database: string
  readonly poolSize?: number
  readonly extra?: Extra
}

interface PostgresFamilyOptions extends ServerOptions {
  readonly ssl?: boolean | { readonly rejectUnauthorized: boolean }
  readonly applicationName?: string
  readonly schema?: string
}

export interface SqliteOptions {
  readonly type: "better-sqlite3"
  readonly database: string
  readonly enableWAL?: boolean
  readonly timeout?: number
  readonly readonly?: boolean
  readonly fileMustExist?: boolean
  readonly extra?: Extra
}

export interface PostgresOptions extends PostgresFamilyOptions {
  readonly type: "postgres"
  readonly uuidExtension: "pgcrypto"
  readonly connectTimeoutMS?: number
}

export interface CockroachOptions extends PostgresFamilyOptions {
  readonly type: "cockroachdb"
  readonly timeTravelQueries: false
}

export interface MysqlOptions extends ServerOptions {
  readonly type: "mysql" | "mariadb"
  readonly ssl?: { readonly rejectUnauthorized?: boolean }
  readonly charset?: string
  readonly timezone?: string
  readonly socketPath?: string
  readonly connectTimeout?: number
}

/** What a database URI says, in the form of TypeORM's `DataSourceOptions`; entities are for the caller to add. */
export type DatabaseOptions = SqliteOptions | PostgresOptions | CockroachOptions | MysqlOptions
