import type { DataSource, QueryResult, QueryRunner } from "typeorm"

/** TypeORM's isolation levels; its package root does not export the type by name. */
export type IsolationLevel = NonNullable<Parameters<QueryRunner["startTransaction"]>[0]>

/** What asks for a connection; named in the error of whoever waits for it in vain. */
export interface ConnectionOwner {
  /** @returns one line: route or caller, and how long it has held its connection */
  describe(): string
}

/** The wait of a request that has not got its connection yet. */
export interface Wait {
  /** Takes the request out of the queue; it rejects with `reason`. */
  cancel(reason: Error): void
}

/** A request for a connection. */
export interface AcquireRequest {
  readonly owner: ConnectionOwner
  /** ms, above 0 */
  readonly timeoutMs: number
  readonly onReplica: boolean
  /** SQLite: whether the transaction takes the database's one write lock when it begins */
  readonly asWriter: boolean
  /** set while it waits */
  wait: Wait | undefined
}

export interface BeginOptions {
  readonly isolation: IsolationLevel | undefined
  readonly readOnly: boolean
  /** ms */
  readonly timeoutMs: number | undefined
  readonly asWriter: boolean
  /** names and values that are set for the transaction only */
  readonly variables: Readonly<Record<string, string>> | undefined
  /** whether the begin may be put off to the first statement that needs it */
  readonly deferBegin: boolean
}

/**
 * One physical connection, held by one transaction at a time. Its calls never overlap: the session sends one after another.
 */
export interface Connection {
  /** the driver's own object, for code that needs it (`queryRunner.connect()`) */
  readonly client: unknown
  /** false once the driver or the server has ended it; it then goes to nobody else */
  readonly isAlive: boolean
  /** true once the server has answered the begin of the present transaction */
  readonly hasBegun: boolean
  /** whether the transaction can still be committed, as the server sees it; undefined where the driver cannot tell */
  readonly isAborted: boolean | undefined

  /**
   * Runs one statement. `prefix` (begin, savepoints) goes before it: on PostgreSQL in the same network round trip.
   * Where a prefix statement fails, the statement itself has not run.
   * @throws the driver's own error
   */
  execute(text: string, parameters: readonly unknown[] | undefined, prefix: readonly string[]): Promise<QueryResult>

  /** Whether the statement changes nothing and takes no lock, as far as can be known without running it. */
  isPlainRead(text: string): boolean

  /** @returns false where the server turned the COMMIT into a ROLLBACK */
  commit(): Promise<boolean>

  /** As `commit()`, without waiting. @returns false where that is not possible, or the commit fails: `commit()` says how */
  commitAtOnce?(): boolean

  rollback(): Promise<void>

  /**
   * Starts a result stream in a transaction that has begun; the connection is busy until the stream has ended, failed or been destroyed.
   * @throws TypeORMError where the driver has none
   */
  stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream>

  /** Asks the server to stop the running statement. Resolves when asked, never rejects. */
  cancel(): Promise<void>

  /** Gives the connection back; with `broken`, ends it instead. Called once for each acquisition. */
  release(broken: boolean): void
}

export interface PoolStats {
  /** connections open now */
  readonly size: number
  /** connections at most */
  readonly max: number
}

/** The connections of one `DataSource`. */
export interface Engine {
  readonly dataSource: DataSource
  readonly waiting: number

  /**
   * @throws {AcquireTimeoutError} when none was free in time; the place in the queue is given up, no slot is lost
   * @throws {DatabaseUnavailableError} when the database cannot be reached or refuses
   */
  acquire(request: AcquireRequest): Promise<Connection>

  /** As `acquire()`, without waiting. @returns undefined where there is something to wait for: `acquire()` does */
  acquireAtOnce?(request: AcquireRequest): Connection | undefined

  /** The statements that open a transaction, in order. */
  begin(options: BeginOptions): readonly string[]

  /** Whether the statement means the same without the begin in front of it: see `DeferrableReads`. */
  isDeferrableRead(options: BeginOptions, text: string): boolean

  /**
   * Refuses at once what this database cannot do.
   * @throws {SessionOptionsError}
   */
  validate(options: BeginOptions): void

  stats(): PoolStats

  /** Asks the server what has to be known of it; called once, after the `DataSource` has started. */
  learn?(): Promise<void>

  /** Ends the connections that are its own; those of the `DataSource` are ended by `dataSource.destroy()`. */
  close(): void
}
