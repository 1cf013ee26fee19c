import { type DataSource, type QueryResult, TypeORMError } from "typeorm"
import { SessionOptionsError } from "../errors"
import { bareStatements } from "./bare-statements"
import type {
  AcquireRequest,
  BeginOptions,
  CommitAnswer,
  Connection,
  Engine,
  Outcome,
  PoolStats,
  TransactionStatus,
} from "./connection"
import { connectFailure } from "./pool"
import { Slots } from "./slots"
import { isBusy, retryWhileBusy } from "./sqlite-busy"
import { type Handle, type SqliteDriver, type Statement, toQueryResult } from "./sqlite-driver"
import { assertVariables, refuseResolve } from "./variables"

const STATEMENT_CACHE = 200
/** TypeORM writes numbers into the text on SQLite, so that hardly any of them comes twice; keeping each costs more than it saves. */
const NUMBER_IN_TEXT = /[=<>(,] ?-?\d/
const IDLE_HANDLE_MS = 30_000
const DEFAULT_READERS = 10

class SqliteConnection implements Connection {
  hasBegun = false
  isPrefixDone = true
  readonly isDoubtful = false
  readonly isSettled = true
  readonly mayResend = false
  readonly identity = undefined
  #endSeen: Outcome | undefined
  readonly #statements = new Map<string, Statement>()
  /** asked for several times while it runs, and then hardly ever again */
  #last: { readonly text: string; readonly statement: Statement } | undefined
  #request: AcquireRequest | undefined
  #readOnly = false
  #isEnded = false
  /** of the COMMIT that was tried at once */
  #refusal: { readonly error: unknown } | undefined

  constructor(
    readonly client: Handle,
    private readonly engine: SqliteEngine,
  ) {}

  get isAlive(): boolean {
    return this.client.open && !this.#isEnded
  }

  get status(): TransactionStatus {
    if (!this.isAlive) return "unknown"
    return this.client.inTransaction ? "open" : "none"
  }

  checkOut(request: AcquireRequest): this {
    this.#request = request
    this.hasBegun = false
    this.#endSeen = undefined
    return this
  }

  takeEnd(): Outcome | undefined {
    const end = this.#endSeen
    this.#endSeen = undefined
    return end
  }

  async execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    this.isPrefixDone = false
    if (this.hasBegun) for (const savepoint of prefix) this.#run(savepoint)
    this.isPrefixDone = this.hasBegun
    const statement = this.#prepare(text)
    // A reader whose first statement writes takes the write lock before its snapshot, so that the snapshot cannot be stale:
    // SQLite "Write-Ahead Logging", 2.2 "Concurrency", and "Transaction", 2.1 "BUSY_SNAPSHOT".
    if (!statement.readonly && !this.engine.tryLock(this.#held())) await this.engine.lock(this.#held())
    const waiting = this.hasBegun || prefix.length === 0 ? undefined : this.#begin(prefix)
    if (waiting) await waiting
    try {
      return toQueryResult(statement, parameters)
    } catch (error) {
      if (!isBusy(error)) throw error
      return await retryWhileBusy(() => toQueryResult(statement, parameters), error, this.#held())
    } finally {
      this.#noticeEnd(text)
    }
  }

  async control(statements: readonly string[]): Promise<void> {
    if (this.hasBegun) for (const statement of statements) this.#run(statement)
    else await this.#begin(statements)
  }

  /** Raw COMMIT or ROLLBACK; SQLite also rolls back by itself (a full disk, `ON CONFLICT ROLLBACK`). */
  #noticeEnd(text: string): void {
    if (!this.hasBegun || this.client.inTransaction) return
    const [first = ""] = bareStatements(text, "sqlite")
    this.#endSeen = COMMIT.test(first) ? "committed" : "rolled back"
  }

  looksLikeRead(text: string): boolean {
    return this.isPlainRead(text)
  }

  mayCommit(): boolean {
    return false
  }

  async askStatus(): Promise<void> {}

  isPlainRead(text: string): boolean {
    try {
      const statement = this.#prepare(text)
      return statement.readonly && statement.reader
    } catch {
      // The statement itself will fail with the same error, where it can be reported.
      return false
    }
  }

  async commit(): Promise<CommitAnswer> {
    if (!this.isAlive) return { outcome: "rolled back", error: new TypeORMError("The SQLite connection is closed.") }
    try {
      if (this.#refusal) throw this.#refusal.error
      const waiting = this.#runPatiently("COMMIT")
      if (waiting) await waiting
      return { outcome: "committed" }
    } catch (error) {
      return { outcome: "rolled back", error }
    }
  }

  commitAtOnce(): boolean {
    if (this.#refusal || !this.client.inTransaction) return false
    try {
      this.#run("COMMIT")
      return true
    } catch (error) {
      if (!isBusy(error)) this.#refusal = { error }
      return false
    }
  }

  async rollback(): Promise<void> {
    if (this.client.inTransaction) this.#run("ROLLBACK")
  }

  async stream(): Promise<NodeJS.ReadableStream> {
    throw new TypeORMError("The SQLite driver has no result streams: read in pages, or use another database.")
  }

  async cancel(): Promise<void> {}

  end(): void {
    this.#isEnded = true
  }

  release(): void {
    const request = this.#held()
    this.#request = undefined
    this.#last = undefined
    this.#refusal = undefined
    const isClean = this.status === "none"
    this.#isEnded = false
    let isBroken = !isClean
    try {
      this.#clean()
    } catch {
      // Somebody still iterates over a result of the handle's own: the handle is given up, and its locks are not.
      isBroken = true
      this.client.unsafeMode(true)
      this.#clean()
    } finally {
      this.#readOnly = false
      this.engine.checkIn(this, request, isBroken)
    }
  }

  #clean(): void {
    if (!this.client.open) return
    if (this.client.inTransaction) this.#run("ROLLBACK")
    if (this.#readOnly) this.client.pragma("query_only = 0")
  }

  #held(): AcquireRequest {
    if (this.#request === undefined) throw new SessionOptionsError("A released SQLite connection was used.")
    return this.#request
  }

  /** @returns undefined where there was nothing to wait for */
  #begin([begin = "", ...rest]: readonly string[]): Promise<void> | undefined {
    const waiting = this.#runPatiently(begin)
    if (waiting) return waiting.then(() => this.#begun(rest))
    this.#begun(rest)
    return undefined
  }

  #begun(rest: readonly string[]): void {
    this.hasBegun = true
    for (const statement of rest) {
      if (statement === QUERY_ONLY) {
        this.#readOnly = true
        this.client.pragma("query_only = 1")
      } else this.#run(statement)
    }
    this.isPrefixDone = true
  }

  #run(text: string): void {
    this.#prepare(text).run()
  }

  #prepare(text: string): Statement {
    if (this.#last?.text === text) return this.#last.statement
    const known = this.#statements.get(text)
    if (known !== undefined) return known
    const statement = this.client.prepare(text)
    if (NUMBER_IN_TEXT.test(text)) {
      this.#last = { text, statement }
      return statement
    }
    if (this.#statements.size >= STATEMENT_CACHE) {
      const [oldest = ""] = this.#statements.keys()
      this.#statements.delete(oldest)
    }
    this.#statements.set(text, statement)
    return statement
  }

  #runPatiently(text: string): Promise<void> | undefined {
    try {
      this.#run(text)
      return undefined
    } catch (error) {
      if (!isBusy(error)) throw error
      return retryWhileBusy(() => this.#run(text), error, this.#held())
    }
  }
}

const COMMIT = /^(?:commit|end)\b/i
const QUERY_ONLY = "PRAGMA query_only = 1"

/**
 * SQLite through better-sqlite3. TypeORM's driver shares one handle between all query runners; here a file database has one
 * handle for each reading session and one for the session that holds the write lock. An in-memory database has only the
 * handle of its `DataSource`, and sessions take turns.
 */
export class SqliteEngine implements Engine {
  /** SQLite's transactions all are; that is enforced while they write, and their COMMIT refuses nothing that was read. */
  readonly isSerializable = false
  readonly #driver: SqliteDriver
  readonly #isMemory: boolean
  readonly #readers: Slots
  readonly #writer: Slots
  /** the request that holds the write lock */
  #locker: AcquireRequest | undefined
  readonly #idle: { connection: SqliteConnection; since: number }[] = []
  #size = 0
  #shared: SqliteConnection | undefined
  #sweep: NodeJS.Timeout | undefined
  #closed = false

  constructor(readonly dataSource: DataSource) {
    this.#driver = dataSource.driver as unknown as SqliteDriver
    const { database, poolSize } = dataSource.options as { database: string; poolSize?: number }
    this.#isMemory = database === ":memory:" || database === ""
    this.#readers = new Slots(this.#isMemory ? 1 : (poolSize ?? DEFAULT_READERS), "connection")
    this.#writer = new Slots(1, "write lock")
  }

  get waiting(): number {
    return this.#readers.waiting + this.#writer.waiting
  }

  acquireAtOnce(request: AcquireRequest): Connection | undefined {
    if (this.#idle.length === 0) return undefined
    const slots = this.#slotsFor(request)
    if (!slots.tryAcquire(request.owner)) return undefined
    if (slots === this.#writer) this.#locker = request
    return this.#idle.pop()?.connection.checkOut(request)
  }

  async acquire(request: AcquireRequest): Promise<Connection> {
    const slots = this.#slotsFor(request)
    if (!slots.tryAcquire(request.owner)) await slots.acquire(request)
    try {
      if (slots === this.#writer) this.#locker = request
      const connection = this.#idle.pop()?.connection ?? (await this.#handle())
      return connection.checkOut(request)
    } catch (error) {
      if (this.#locker === request) this.#locker = undefined
      slots.release(request.owner)
      throw connectFailure(`SQLite file ${this.#file()}`, error)
    }
  }

  begin(options: BeginOptions): readonly string[] {
    const statements = [options.asWriter && !options.readOnly ? "BEGIN IMMEDIATE" : "BEGIN"]
    if (options.readOnly) statements.push(QUERY_ONLY)
    return statements
  }

  /** A transaction is one snapshot here, so a read belongs to it; and its begin costs no round trip. */
  isDeferrableRead(): boolean {
    return false
  }

  validate(options: BeginOptions): void {
    if (options.isolation && options.isolation !== "SERIALIZABLE" && options.isolation !== "READ UNCOMMITTED") {
      throw new SessionOptionsError(
        `isolation "${options.isolation}" is not one of SERIALIZABLE, READ UNCOMMITTED, which SQLite supports; ` +
          "its transactions are always serializable.",
      )
    }
    if (options.variables) assertVariables(this.dataSource.options.type)
    if (options.resolveCommits) refuseResolve(this.dataSource.options.type)
  }

  stats(): PoolStats {
    if (this.#isMemory) return { size: 1, max: 1 }
    return { size: this.#size, max: this.#readers.max + this.#writer.max }
  }

  close(): void {
    this.#closed = true
    clearInterval(this.#sweep)
    this.#sweep = undefined
    for (const { connection } of this.#idle.splice(0)) this.#end(connection)
  }

  /** Takes the database's one write lock where it is free. @returns whether the request holds it */
  tryLock(request: AcquireRequest): boolean {
    if (this.#isMemory || this.#locker === request) return true
    if (!this.#writer.tryAcquire(request.owner)) return false
    this.#locker = request
    return true
  }

  /** Waits for the write lock. @throws {AcquireTimeoutError} */
  async lock(request: AcquireRequest): Promise<void> {
    await this.#writer.acquire(request)
    this.#locker = request
  }

  checkIn(connection: SqliteConnection, request: AcquireRequest, broken: boolean): void {
    if (!this.#isMemory) {
      if (broken || this.#closed || !this.dataSource.isInitialized) this.#end(connection)
      else this.#keep(connection)
    }
    if (this.#locker === request) {
      this.#locker = undefined
      this.#writer.release(request.owner)
    }
    this.#readers.release(request.owner)
  }

  #slotsFor(request: AcquireRequest): Slots {
    return request.asWriter && !this.#isMemory ? this.#writer : this.#readers
  }

  async #handle(): Promise<SqliteConnection> {
    if (this.#isMemory) {
      // Another one where its owner destroyed the DataSource and initialised it again.
      const handle = this.#driver.databaseConnection
      if (this.#shared?.client !== handle) this.#shared = new SqliteConnection(handle, this)
      return this.#shared
    }
    const handle = await this.#driver.createDatabaseConnection()
    try {
      handle.pragma("busy_timeout = 0")
      for (const { attachFilepathAbsolute, attachHandle } of Object.values(this.#driver.attachedDatabases)) {
        handle.prepare(`ATTACH ? AS "${attachHandle}"`).run(attachFilepathAbsolute)
      }
    } catch (error) {
      handle.close()
      throw error
    }
    this.#size++
    return new SqliteConnection(handle, this)
  }

  #keep(connection: SqliteConnection): void {
    this.#idle.push({ connection, since: performance.now() })
    this.#sweep ??= setInterval(() => this.#endIdle(), IDLE_HANDLE_MS).unref()
  }

  #endIdle(): void {
    const limit = performance.now() - IDLE_HANDLE_MS
    while (this.#idle[0] && this.#idle[0].since < limit) {
      const oldest = this.#idle.shift()
      if (oldest) this.#end(oldest.connection)
    }
    if (this.#idle.length > 0) return
    clearInterval(this.#sweep)
    this.#sweep = undefined
  }

  #end(connection: SqliteConnection): void {
    this.#size--
    try {
      connection.client.close()
    } catch {
      // It cannot be closed while somebody iterates over a result of its own; it holds no lock and is lent to nobody.
    }
  }

  #file(): string {
    return String((this.dataSource.options as { database: unknown }).database)
  }
}
