import type { DataSource, QueryResult } from "typeorm"
import type {
  AcquireRequest,
  BeginOptions,
  CommitAnswer,
  Connection,
  ConnectionOwner,
  Engine,
  Outcome,
  PoolStats,
  TransactionStatus,
} from "../engine/connection"
import { Slots } from "../engine/slots"
import { SessionStateError } from "../errors"

const TIMEOUT_MS = 10_000

/** One number for all sandboxes: MySQL replaces a savepoint by another one of the same name. */
let savepoints = 0

/**
 * Stands in for a maker's engine during one spec: one connection, on which one transaction is open that will be rolled back.
 * A session's transaction is a savepoint of it, so its commit is visible to the sessions after it and to nobody else.
 * Sessions take turns, as savepoints nest.
 */
export class SandboxEngine implements Engine {
  readonly #slots = new Slots(1, "turn in the sandbox")
  readonly #everSet = new Set<string>()
  #savepoint = ""
  #hasTimeout = false
  #ending: Promise<void> | undefined

  private constructor(
    private readonly real: Engine,
    private readonly connection: Connection,
  ) {}

  static async start(real: Engine): Promise<SandboxEngine> {
    const owner: ConnectionOwner = { describe: () => "sandbox()" }
    const connection = await real.acquire({
      owner,
      timeoutMs: TIMEOUT_MS,
      answerTimeoutMs: TIMEOUT_MS,
      statementTimeoutMs: undefined,
      onReplica: false,
      asWriter: true,
      wait: undefined,
    })
    const sandbox = new SandboxEngine(real, connection)
    try {
      await connection.execute("SELECT 1", [], real.begin(OUTER))
    } catch (error) {
      connection.end(error as Error)
      connection.release()
      throw error
    }
    return sandbox
  }

  get dataSource(): DataSource {
    return this.real.dataSource
  }

  get waiting(): number {
    return this.#slots.waiting
  }

  get isSerializable(): boolean {
    return this.real.isSerializable
  }

  get hasEnded(): boolean {
    return this.#ending !== undefined
  }

  async acquire(request: AcquireRequest): Promise<Connection> {
    this.assertOpen()
    await this.#slots.acquire(request)
    return new SandboxConnection(this, this.connection, () => this.#slots.release(request.owner))
  }

  /** Isolation and `readOnly` are those of the outer transaction, which cannot change them; the rest is set anew each time. */
  begin({ timeoutMs, variables = {} }: BeginOptions): readonly string[] {
    this.#savepoint = `sandbox_${++savepoints}`
    const statements = [`SAVEPOINT ${this.#savepoint}`]
    if (!this.#isPostgres) return statements
    if (timeoutMs !== undefined || this.#hasTimeout) {
      statements.push(`SET LOCAL statement_timeout = ${timeoutMs ?? "DEFAULT"}`)
    }
    this.#hasTimeout ||= timeoutMs !== undefined
    for (const name of Object.keys(variables)) this.#everSet.add(name)
    const all = Object.fromEntries([...this.#everSet].map((name) => [name, variables[name] ?? ""]))
    if (this.#everSet.size > 0) statements.push(...this.real.begin({ ...OUTER, variables: all }).slice(1))
    return statements
  }

  isDeferrableRead(): boolean {
    return false
  }

  validate(options: BeginOptions): void {
    this.real.validate(options)
  }

  stats(): PoolStats {
    return this.real.stats()
  }

  /** The `DataSource` is to be destroyed in mid-spec, and waits for its connections. */
  close(): void {
    void this.end()
  }

  /**
   * What a COMMIT would do for the savepoint: deferred constraints are checked, which a savepoint leaves for later.
   * @throws the database's error; the savepoint is still there
   * @see PostgreSQL 18 manual, "SET CONSTRAINTS": its effect ends with the savepoint that is rolled back.
   */
  async commit(): Promise<void> {
    this.assertOpen()
    const { type } = this.dataSource.options
    if (type === "postgres") {
      const check = ["SAVEPOINT sandbox_check", "SET CONSTRAINTS ALL IMMEDIATE", "ROLLBACK TO SAVEPOINT sandbox_check"]
      return this.#send([...check, `RELEASE SAVEPOINT ${this.#savepoint}`])
    }
    if (type === "better-sqlite3") {
      const { records } = await this.connection.execute("PRAGMA foreign_key_check", [], [])
      if (records.length > 0) throw new DeferredForeignKeyError(records)
    }
    await this.#send([`RELEASE SAVEPOINT ${this.#savepoint}`])
  }

  async rollback(): Promise<void> {
    if (this.hasEnded) return
    await this.#send([`ROLLBACK TO SAVEPOINT ${this.#savepoint}`, `RELEASE SAVEPOINT ${this.#savepoint}`])
  }

  assertOpen(): void {
    if (!this.hasEnded) return
    throw new SessionStateError(
      "A session outlives its spec: the sandbox that it began in has ended and was rolled back. " +
        "Await the end of every request and run() in the spec.",
    )
  }

  /** Rolls everything back. Never rejects: where the connection is lost, the database has done it. */
  end(): Promise<void> {
    this.#ending ??= this.#end()
    return this.#ending
  }

  async #end(): Promise<void> {
    try {
      if (this.connection.isAlive) await this.connection.rollback()
    } catch {
      // The connection is ended with whatever was open on it.
    }
    this.connection.release()
  }

  get #isPostgres(): boolean {
    const { type } = this.dataSource.options
    return type === "postgres" || type === "cockroachdb"
  }

  /** PostgreSQL takes several statements in one round trip. */
  async #send(statements: readonly string[]): Promise<void> {
    if (this.#isPostgres) await this.connection.execute(statements.join(";"), undefined, [])
    else for (const statement of statements) await this.connection.execute(statement, undefined, [])
  }
}

const OUTER: BeginOptions = {
  isolation: undefined,
  readOnly: false,
  timeoutMs: undefined,
  asWriter: true,
  variables: undefined,
  deferBegin: false,
  resolveCommits: false,
}

/** SQLite checks deferred foreign keys at the outermost COMMIT only, so the sandbox asks for them. */
class DeferredForeignKeyError extends Error {
  readonly code = "SQLITE_CONSTRAINT_FOREIGNKEY"

  constructor(readonly violations: readonly unknown[]) {
    super("FOREIGN KEY constraint failed")
  }
}

/** One session's turn on the sandbox's connection. */
class SandboxConnection implements Connection {
  hasBegun = false
  readonly isDoubtful = false
  readonly identity = undefined
  #hasEnded = false

  constructor(
    private readonly sandbox: SandboxEngine,
    private readonly connection: Connection,
    private readonly done: () => void,
  ) {}

  get client(): unknown {
    return this.connection.client
  }

  get isAlive(): boolean {
    return this.connection.isAlive
  }

  get status(): TransactionStatus {
    // Between two sessions the sandbox's own transaction is what is open.
    return this.hasBegun && !this.#hasEnded ? this.connection.status : "none"
  }

  get isSettled(): boolean {
    return this.connection.isSettled
  }

  get mayResend(): boolean {
    return false
  }

  get isPrefixDone(): boolean {
    return this.connection.isPrefixDone
  }

  takeEnd(): Outcome | undefined {
    return this.connection.takeEnd()
  }

  async execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    this.sandbox.assertOpen()
    try {
      return await this.connection.execute(text, parameters, prefix)
    } finally {
      this.hasBegun = true
    }
  }

  async control(statements: readonly string[]): Promise<void> {
    this.sandbox.assertOpen()
    try {
      await this.connection.control(statements)
    } finally {
      this.hasBegun = true
    }
  }

  looksLikeRead(text: string): boolean {
    return this.connection.looksLikeRead(text)
  }

  mayCommit(text: string): boolean {
    return this.connection.mayCommit(text)
  }

  askStatus(): Promise<void> {
    return this.connection.askStatus()
  }

  isPlainRead(text: string, parameters: readonly unknown[] | undefined): boolean {
    return this.connection.isPlainRead(text, parameters)
  }

  async commit(): Promise<CommitAnswer> {
    try {
      await this.sandbox.commit()
    } catch (error) {
      return { outcome: "rolled back", error }
    }
    this.#hasEnded = true
    return { outcome: "committed" }
  }

  async rollback(): Promise<void> {
    await this.sandbox.rollback()
    this.#hasEnded = true
  }

  async stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    this.sandbox.assertOpen()
    return this.connection.stream(text, parameters)
  }

  async cancel(): Promise<void> {
    await this.connection.cancel()
  }

  end(reason: Error): void {
    this.connection.end(reason)
  }

  release(): void {
    this.done()
  }
}
