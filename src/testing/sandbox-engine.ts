import type { DataSource, QueryResult } from "typeorm"
import type { AcquireRequest, BeginOptions, Connection, ConnectionOwner, Engine, PoolStats } from "../engine/connection"
import { Slots } from "../engine/slots"
import { SessionStateError } from "../errors"

const BEGIN_TIMEOUT_MS = 10_000
/** The end of a session that only read is not waited for by its response. */
const LEAVE_TIMEOUT_MS = 1_000

/**
 * Stands in for a maker's engine during one spec: one connection, on which one transaction is open that will be rolled back.
 * A session's transaction is a savepoint of it, so its commit is visible to the sessions after it and to nobody else.
 * Sessions take turns, as savepoints nest.
 */
export class SandboxEngine implements Engine, ConnectionOwner {
  readonly #slots = new Slots(1, "turn in the sandbox")
  readonly #everSet = new Set<string>()
  #savepoints = 0
  #hasTimeout = false
  #hasEnded = false

  private constructor(
    private readonly real: Engine,
    private readonly connection: Connection,
  ) {}

  static async start(real: Engine): Promise<SandboxEngine> {
    const owner: ConnectionOwner = { describe: () => "sandbox()" }
    const connection = await real.acquire({ owner, timeoutMs: BEGIN_TIMEOUT_MS, onReplica: false, asWriter: true })
    const sandbox = new SandboxEngine(real, connection)
    await connection.execute("SELECT 1", [], real.begin(OUTER))
    return sandbox
  }

  get dataSource(): DataSource {
    return this.real.dataSource
  }

  get waiting(): number {
    return this.#slots.waiting
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  describe(): string {
    return "the end of the sandbox"
  }

  async acquire(request: AcquireRequest): Promise<Connection> {
    this.assertOpen()
    await this.#slots.acquire(request)
    return new SandboxConnection(this, this.connection, () => this.#slots.release(request.owner))
  }

  /** Isolation and `readOnly` are those of the outer transaction, which cannot change them; the rest is set anew each time. */
  begin({ timeoutMs, variables = {} }: BeginOptions): readonly string[] {
    const statements = [`SAVEPOINT ${this.#nextSavepoint()}`]
    if (!this.#isPostgres) return statements
    if (timeoutMs !== undefined || this.#hasTimeout) statements.push(`SET LOCAL statement_timeout = ${timeoutMs ?? 0}`)
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

  close(): void {}

  /**
   * What a COMMIT would check and a savepoint does not: deferred constraints. @throws the database's error
   * @see PostgreSQL 18 manual, "SET CONSTRAINTS": its effect ends with the savepoint that is rolled back.
   */
  async checkDeferred(): Promise<void> {
    if (this.#isPostgres) {
      await this.connection.execute("SAVEPOINT sandbox_check", [], [])
      try {
        await this.connection.execute("SET CONSTRAINTS ALL IMMEDIATE", [], [])
      } finally {
        await this.connection.execute("ROLLBACK TO SAVEPOINT sandbox_check", [], [])
      }
    } else if (this.dataSource.options.type === "better-sqlite3") {
      const { records } = await this.connection.execute("PRAGMA foreign_key_check", [], [])
      if (records.length > 0) throw new DeferredForeignKeyError(records)
    }
  }

  currentSavepoint(): string {
    return `sandbox_${this.#savepoints}`
  }

  assertOpen(): void {
    if (!this.#hasEnded) return
    throw new SessionStateError(
      "A session outlives its spec: the sandbox that it began in has ended and was rolled back. Await the end of every request and run() in the spec.",
    )
  }

  /** Rolls everything back. @throws {SessionStateError} where a session still holds its turn */
  async end(): Promise<void> {
    let outlived: unknown
    try {
      await this.#slots.acquire({ owner: this, timeoutMs: LEAVE_TIMEOUT_MS, onReplica: false, asWriter: true })
    } catch (error) {
      outlived = error
    }
    this.#hasEnded = true
    let isBroken = !this.connection.isAlive
    try {
      await this.connection.rollback()
    } catch {
      // The connection is ended with whatever was open on it.
      isBroken = true
    }
    this.connection.release(isBroken)
    if (outlived === undefined) return
    throw new SessionStateError(
      "A session outlives its spec: it still holds its transaction when the sandbox ends. Await the end of every request and run() in the spec.",
      { cause: outlived },
    )
  }

  get #isPostgres(): boolean {
    const { type } = this.dataSource.options
    return type === "postgres" || type === "cockroachdb"
  }

  #nextSavepoint(): string {
    this.#savepoints++
    return this.currentSavepoint()
  }
}

const OUTER: BeginOptions = {
  isolation: undefined,
  readOnly: false,
  timeoutMs: undefined,
  asWriter: true,
  variables: undefined,
  deferBegin: false,
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

  get isAborted(): boolean | undefined {
    return this.connection.isAborted
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

  isPlainRead(text: string): boolean {
    return this.connection.isPlainRead(text)
  }

  async commit(): Promise<boolean> {
    this.sandbox.assertOpen()
    await this.sandbox.checkDeferred()
    await this.connection.execute(`RELEASE SAVEPOINT ${this.sandbox.currentSavepoint()}`, [], [])
    return true
  }

  async rollback(): Promise<void> {
    if (this.sandbox.hasEnded) return
    await this.connection.execute(`ROLLBACK TO SAVEPOINT ${this.sandbox.currentSavepoint()}`, [], [])
    await this.connection.execute(`RELEASE SAVEPOINT ${this.sandbox.currentSavepoint()}`, [], [])
  }

  async stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    this.sandbox.assertOpen()
    return this.connection.stream(text, parameters)
  }

  async cancel(): Promise<void> {
    await this.connection.cancel()
  }

  release(): void {
    this.done()
  }
}
