import type { DataSource, QueryResult, QueryRunner } from "typeorm"

/** TypeORM's isolation levels; its package root does not export the type by name. */
export type IsolationLevel = NonNullable<Parameters<QueryRunner["startTransaction"]>[0]>

/** What has become of a transaction; unknown where COMMIT was sent and not answered. */
export type Outcome = "committed" | "rolled back" | "unknown"

/** What the server last said of the transaction on a connection; unknown where it has not answered since. */
export type TransactionStatus = "none" | "open" | "failed" | "unknown"

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
  /** ms, above 0: longest wait for the answer to what the session itself sends, such as BEGIN and COMMIT */
  readonly answerTimeoutMs: number
  /** ms a statement may run in the database; the client waits one second longer */
  readonly statementTimeoutMs: number | undefined
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
  /** whether the database is asked what became of a COMMIT whose answer was lost */
  readonly resolveCommits: boolean
}

export interface CommitAnswer {
  readonly outcome: Outcome
  /** why it is not committed; none where the server turned the COMMIT into a ROLLBACK without an error */
  readonly error?: unknown
}

/**
 * One physical connection, held by one transaction at a time. Its calls never overlap: the session sends one after another.
 * What it says of itself is what the driver has heard from the server, and not what was sent.
 */
export interface Connection {
  /** the driver's own object, for code that needs it (`queryRunner.connect()`) */
  readonly client: unknown
  /** false once the driver or the server has ended it; it then goes to nobody else */
  readonly isAlive: boolean
  /** whether everything that was sent on it, by code outside of the session as well, was answered */
  readonly isSettled: boolean
  readonly status: TransactionStatus
  /** true once the server has answered the begin of the present transaction */
  readonly hasBegun: boolean
  /** whether it was idle for so long that it must answer a begin before it is given a statement */
  readonly isDoubtful: boolean
  /**
   * Of a connection that has just died: whether what was sent last can be sent again on another one, because it can have done
   * nothing here and does not run any more (contract 3.3).
   */
  readonly mayResend: boolean

  /**
   * Runs one statement. `prefix` (begin, savepoints) goes before it: on PostgreSQL in the same network round trip.
   * Where a prefix statement fails, the statement itself has not run.
   * @throws the driver's own error; {DatabaseUnavailableError} where the answer did not come in time, the connection is ended
   */
  execute(text: string, parameters: readonly unknown[] | undefined, prefix: readonly string[]): Promise<QueryResult>

  /** Sends what the session itself has to say: begin, savepoints and their end. @throws as `execute()` */
  control(statements: readonly string[]): Promise<void>

  /** which transaction it is; set once the row of `Engine.identification` has come */
  readonly identity: string | undefined

  /** Whether the last `prefix` was carried out to its end. */
  readonly isPrefixDone: boolean

  /** Learns `status` anew, where the driver's client was used beside this. Never rejects. */
  askStatus(): Promise<void>

  /** Whether the statement may commit the transaction by itself, so that its loss leaves open what is kept. */
  mayCommit(text: string): boolean

  /** What became of a transaction that ended without `commit()` or `rollback()`, where an answer since the last call tells of one. */
  takeEnd(): Outcome | undefined

  /** Whether the statement changes nothing, as far as its text tells. */
  looksLikeRead(text: string): boolean

  /** Whether the statement surely changes nothing and takes no lock. `false` says that this is not known. */
  isPlainRead(text: string, parameters: readonly unknown[] | undefined): boolean

  /** Never rejects. */
  commit(): Promise<CommitAnswer>

  /** As `commit()`, without waiting. @returns false where that is not possible, or the commit fails: `commit()` says how */
  commitAtOnce?(): boolean

  /** @throws the driver's own error; the transaction then ends with the connection */
  rollback(): Promise<void>

  /**
   * Starts a result stream in a transaction that has begun; the connection is busy until the stream has ended, failed or been destroyed.
   * @throws TypeORMError where the driver has none
   */
  stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream>

  /** Asks the server to stop the running statement. Resolves when that is over, never rejects: where it fails, the connection is ended. */
  cancel(): Promise<void>

  /** Ends the connection now; what is under way on it fails with `reason`. `release()` is still to be called. */
  end(reason: Error): void

  /**
   * Gives the connection back where it is clean: everything sent was answered, and the last answer said that no transaction is
   * open. Any other is ended. Goes to nobody before a cancel is over. Called once for each acquisition.
   */
  release(): void
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
  /** whether a transaction for which no isolation is asked for is serializable */
  readonly isSerializable: boolean

  /**
   * @throws {AcquireTimeoutError} when none was free in time; the place in the queue is given up, no slot is lost
   * @throws {DatabaseUnavailableError} when the database cannot be reached or refuses
   */
  acquire(request: AcquireRequest): Promise<Connection>

  /** As `acquire()`, without waiting. @returns undefined where there is something to wait for: `acquire()` does */
  acquireAtOnce?(request: AcquireRequest): Connection | undefined

  /** The statements that open a transaction, in order. */
  begin(options: BeginOptions): readonly string[]

  /** Whether the statement means the same without the begin in front of it: see `PlainReads`. */
  isDeferrableRead(options: BeginOptions, text: string, parameters: readonly unknown[] | undefined): boolean

  /**
   * Refuses at once what this database cannot do.
   * @throws {SessionOptionsError}
   */
  validate(options: BeginOptions): void

  stats(): PoolStats

  /** Asks the server what has to be known of it; called once, after the `DataSource` has started. */
  learn?(): Promise<void>

  /** The statement whose row says which transaction this is, for `resolve()`. */
  readonly identification?: string

  /** What became of a transaction whose COMMIT was not answered. Never rejects. @param identity the row of `identification` */
  resolve?(identity: string, timeoutMs: number): Promise<Outcome>

  /**
   * Resolves once every connection was given back: some are kept after the end of their session, until a cancel is over or a connect
   * that was given up has ended.
   */
  whenReturned?(): Promise<void>

  /** Ends the connections that are its own; those of the `DataSource` are ended by `dataSource.destroy()`. */
  close(): void
}
