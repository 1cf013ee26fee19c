import type { Readable } from "node:stream"
import { type DataSource, QueryResult } from "typeorm"
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
import { describeTarget } from "./describe-target"
import { codeOf, isServerError } from "./failure-kind"
import { assertIsolation } from "./isolation"
import { PlainReads } from "./plain-reads"
import { acquireFromPool, lostBeforeCommit, type PoolAccess, PooledConnection, type PoolSlots } from "./pool"
import { type Cancellable, sendCancelRequest, type WireConnectionConstructor } from "./postgres-cancel"
import { isEndedByServer, isFatal } from "./postgres-errors"
import { type DriverQueryConstructor, type PrefixedQueryConstructor, prefixedQuery } from "./postgres-query"
import { type ClientConstructor, IDENTIFICATION, resolveCommit } from "./postgres-resolve"
import { Slots } from "./slots"
import { refuseResolve } from "./variables"

type Callback = (error: Error | undefined, result: unknown) => void

interface PostgresResult {
  readonly command?: string
  readonly rows: unknown[]
  readonly rowCount: number | null
}

/** The part of a pg client that is used; `getTransactionStatus` came with pg 8.18. */
interface PostgresClient extends Cancellable {
  query(text: string, values: readonly unknown[] | undefined, callback: Callback): void
  query(query: object): unknown
  on(event: "error" | "end", listener: () => void): void
  getTransactionStatus?(): string | null
  /** whether everything that was sent is answered */
  readonly readyForQuery?: boolean
  readonly connection?: Cancellable["connection"] & {
    readonly stream?: { readonly writable?: boolean }
    on?(event: "readyForQuery", listener: () => void): void
  }
}

type Release = (broken?: boolean) => void

/** The part of pg-pool 3.14 that is used. */
interface PostgresPool {
  on(event: "connect", listener: (client: PostgresClient) => void): void
  readonly options: { readonly max: number; readonly maxUses?: number; readonly maxLifetimeSeconds?: number }
  readonly totalCount: number
  readonly idleCount: number
  readonly waitingCount: number
  readonly ending: boolean
}

/** The part of TypeORM 1.1.1's `PostgresDriver` and `CockroachDriver` that is used. */
interface PostgresDriver {
  readonly master: PostgresPool
  readonly slaves: readonly PostgresPool[]
  readonly isReplicated: boolean
  readonly postgres: {
    readonly Query?: DriverQueryConstructor
    readonly Client: ClientConstructor
    readonly Connection: WireConnectionConstructor
  }
  obtainMasterConnection(): Promise<[PostgresClient, Release]>
  obtainSlaveConnection(): Promise<[PostgresClient, Release]>
  loadStreamDependency(): new (text: string, parameters: readonly unknown[] | undefined) => Readable
}

const STATUSES: Readonly<Record<string, TransactionStatus>> = { I: "none", T: "open", E: "failed" }

class PostgresConnection extends PooledConnection implements Connection {
  #giveBack: Release | undefined
  /** called when the server is ready, or the connection has ended */
  #onSettled: (() => void) | undefined

  constructor(
    readonly client: PostgresClient,
    private readonly engine: PostgresEngine,
  ) {
    super()
    // A client without a listener would end the process when its socket dies.
    const lost = () => {
      this.lost()
      this.#onSettled?.()
    }
    client.on("error", lost)
    client.on("end", lost)
    client.connection?.on?.("readyForQuery", () => this.#onSettled?.())
  }

  get status(): TransactionStatus {
    if (!this.isAlive || !this.isSettled) return "unknown"
    return STATUSES[this.client.getTransactionStatus?.() ?? ""] ?? "unknown"
  }

  get isSettled(): boolean {
    return this.client.readyForQuery === true
  }

  /** @param giveBack of the driver's pool, for this time */
  checkOut(giveBack: Release): this {
    this.#giveBack = giveBack
    return this
  }

  async execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    if (this.cancelling) await this.cancelling
    let raw: PostgresResult | PostgresResult[]
    try {
      raw = await this.#run(text, parameters, prefix)
    } catch (error) {
      this.#noticeEndAfterFailure(text)
      throw error
    }
    this.#noticeEnd(text, raw)
    return toQueryResult(raw)
  }

  #run(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<PostgresResult | PostgresResult[]> {
    if (prefix.length === 0) return this.#plain(text, parameters)
    const { Prefixed } = this.engine
    const mayHoldSeveral = text.includes(";") && !parameters?.length
    if (Prefixed && !mayHoldSeveral) return this.#prefixed(Prefixed, text, parameters, prefix)
    return this.control(prefix).then(() => this.#plain(text, parameters))
  }

  async control(statements: readonly string[]): Promise<void> {
    this.isPrefixDone = false
    let result: PostgresResult | PostgresResult[]
    try {
      result = await this.#send(statements.join(";"))
    } finally {
      // What begins is first, and stays open where one behind it fails.
      if (this.isAlive && this.isSettled && this.status !== "none") this.hasBegun = true
    }
    const last = Array.isArray(result) ? result.at(-1) : result
    this.#identify(statements, Object.values((last?.rows[0] as object | undefined) ?? {})[0])
    this.isPrefixDone = true
  }

  mayCommit(text: string): boolean {
    return bareStatements(text, "postgres").some((statement) =>
      /^(?:commit|end|prepare\s+transaction|call|do)\b/i.test(statement),
    )
  }

  /** pg hears the status with every answer. */
  async askStatus(): Promise<void> {}

  isPlainRead(text: string, parameters: readonly unknown[] | undefined): boolean {
    return this.engine.plainReads.has(text, parameters)
  }

  async commit(): Promise<CommitAnswer> {
    if (!this.isAlive || this.client.connection?.stream?.writable === false) {
      return { outcome: "rolled back", error: lostBeforeCommit() }
    }
    try {
      const { command } = (await this.#send("COMMIT")) as PostgresResult
      return { outcome: command === "ROLLBACK" ? "rolled back" : "committed" }
    } catch (error) {
      // What the server refuses by an answer of its own, it has rolled back; all else leaves open how far it came.
      const isAnswered = this.isAlive && this.isSettled && isServerError(error) && !leavesOpen(error)
      const isRefused = isAnswered || isEndedByServer(error)
      return { outcome: isRefused ? "rolled back" : "unknown", error }
    }
  }

  async rollback(): Promise<void> {
    await this.#send("ROLLBACK")
  }

  async stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    if (this.cancelling) await this.cancelling
    const QueryStream = this.engine.driver.loadStreamDependency()
    const stream = new QueryStream(text, parameters)
    this.limitStream(stream)
    this.client.query(stream)
    return stream
  }

  protected override requestCancel(): Promise<void> {
    // An answer that has come, or is being read, needs none.
    if (this.isSettled || !this.isAlive) return Promise.resolve()
    return this.engine.cancel(this.client)
  }

  protected override canPassOn(slots: PoolSlots): boolean {
    return this.engine.canPassOn(slots)
  }

  protected override giveBack(isBroken: boolean): void {
    this.#giveBack?.(isBroken)
  }

  protected override destroy(): void {
    this.client.connection?.stream?.destroy()
  }

  /**
   * The server's answer to what was sent comes after the error, also where the client found it by itself (a value that cannot be
   * encoded); only then is the status known. pg's own `query_timeout` says nothing of the server, which goes on.
   */
  protected override settle(error: Error): Promise<void> | undefined {
    if (isServerError(error)) {
      if (isFatal(error)) this.refused()
    } else if (isFatal(error)) this.lost()
    else if (error.message === READ_TIMEOUT) {
      this.stopStatement()
      this.end(error)
    }
    if (!this.isAlive || this.isSettled) return undefined
    return new Promise((resolve) => {
      this.#onSettled = () => {
        if (this.isAlive && !this.isSettled) return
        this.#onSettled = undefined
        resolve()
      }
    })
  }

  #plain(text: string, parameters: readonly unknown[] | undefined): Promise<PostgresResult | PostgresResult[]> {
    return this.ask("a statement", "statement", (done) => {
      this.client.query(text, parameters, done as Callback)
    })
  }

  #prefixed(
    Prefixed: PrefixedQueryConstructor,
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<PostgresResult | PostgresResult[]> {
    this.isPrefixDone = false
    return this.ask(prefix[0] ?? "", "prefix", (done) => {
      const prefixAnswered = (completed: number, row: unknown) => {
        this.hasBegun = true
        if (completed < prefix.length) return
        this.isPrefixDone = true
        this.#identify(prefix, row)
        this.goOn("a statement")
      }
      this.client.query(new Prefixed(prefix, { prefixAnswered }, text, parameters, done as Callback))
    })
  }

  #identify(statements: readonly string[], row: unknown): void {
    if (statements.at(-1) === IDENTIFICATION && row != null) this.identity = String(row)
  }

  /** By the status, and by the commands that were answered: `COMMIT AND CHAIN` leaves a transaction open that is another one. */
  #noticeEnd(text: string, raw: PostgresResult | PostgresResult[]): void {
    if (!this.hasBegun) return
    if (!Array.isArray(raw) && raw.command !== "COMMIT" && raw.command !== "ROLLBACK") {
      if (this.status === "none") this.endSeen = "unknown"
      return
    }
    const commands = Array.isArray(raw) ? raw.map(({ command }) => command) : [raw.command]
    const last = commands.findLast((command) => command === "COMMIT" || command === "ROLLBACK")
    const isToSavepoint = last === "ROLLBACK" && this.status === "open" && !hasWholeRollback(text)
    if (last && !isToSavepoint) this.endSeen = last === "COMMIT" ? "committed" : "rolled back"
    else if (this.status === "none") this.endSeen = "unknown"
  }

  /** A COMMIT that is refused has rolled back; of several statements a COMMIT may have come before the one that failed. */
  #noticeEndAfterFailure(text: string): void {
    if (!this.hasBegun || this.status !== "none") return
    this.endSeen = bareStatements(text, "postgres").length > 1 ? "unknown" : "rolled back"
  }

  #send(text: string): Promise<PostgresResult | PostgresResult[]> {
    return this.ask(text, "answer", (done) => {
      this.client.query(text, undefined, done as Callback)
    })
  }
}

/** pg 8.23 `lib/client.js`, `query` */
const READ_TIMEOUT = "Query read timeout"

const WHOLE_ROLLBACK = /^(?:rollback|abort)\b(?!\s+(?:work\s+|transaction\s+)?to\b)/i

/** Each statement by how it begins: the word may stand in a comment, a text or a name. */
function hasWholeRollback(text: string): boolean {
  return bareStatements(text, "postgres").some((statement) => WHOLE_ROLLBACK.test(statement))
}

/** Connection exceptions, and "statement completion unknown" of clusters. */
function leavesOpen(error: unknown): boolean {
  const code = codeOf(error) ?? ""
  return code === "40003" || code.startsWith("08")
}

/** PostgreSQL and CockroachDB: the driver's pool behind a queue that a waiter can leave. */
export class PostgresEngine implements Engine {
  readonly driver: PostgresDriver
  readonly Prefixed: PrefixedQueryConstructor | undefined
  readonly #primary: PoolSlots
  readonly #replicas: PoolSlots | undefined
  readonly #fromPrimary: PoolAccess<[PostgresClient, Release], PostgresConnection>
  readonly #fromReplicas: PoolAccess<[PostgresClient, Release], PostgresConnection>
  readonly #connections = new WeakMap<PostgresClient, PostgresConnection>()
  readonly plainReads: PlainReads
  #isReadCommitted = false
  isSerializable = true

  constructor(readonly dataSource: DataSource) {
    this.driver = dataSource.driver as unknown as PostgresDriver
    const { Query } = this.driver.postgres
    this.Prefixed = Query && "prepare" in Query.prototype ? prefixedQuery(Query) : undefined
    this.#primary = new Slots(this.driver.master.options.max, "connection")
    this.plainReads = new PlainReads(dataSource)
    this.#fromPrimary = this.#access(() => this.driver.obtainMasterConnection(), this.driver.master)
    this.#fromReplicas = this.#access(() => this.driver.obtainSlaveConnection())
    if (this.driver.slaves.length > 0) {
      this.#replicas = new Slots(
        this.driver.slaves.reduce((sum, pool) => sum + pool.options.max, 0),
        "replica connection",
      )
    }
    // At once: the server may end a connection in the same packet that says it is ready, before anybody was given it.
    for (const pool of [this.driver.master, ...this.driver.slaves]) {
      pool.on("connect", (client) => {
        this.#connectionOf(client).openedAt = performance.now()
      })
    }
  }

  get waiting(): number {
    return this.#primary.waiting + (this.#replicas?.waiting ?? 0)
  }

  acquire(request: AcquireRequest): Promise<Connection> {
    return request.onReplica && this.#replicas
      ? acquireFromPool(request, this.#replicas, this.#fromReplicas)
      : acquireFromPool(request, this.#primary, this.#fromPrimary)
  }

  /** @param pool the only one that `open` asks; undefined where there are several */
  #access(
    open: () => Promise<[PostgresClient, Release]>,
    pool?: PostgresPool,
  ): PoolAccess<[PostgresClient, Release], PostgresConnection> {
    return {
      open: async () => open(),
      hasIdle: () => pool !== undefined && pool.idleCount > pool.waitingCount,
      wrap: ([client, release]) => this.#connectionOf(client).checkOut(release),
      discard: ([, release]) => release(),
      describe: () => describeTarget(this.dataSource.options),
    }
  }

  /** Not where there may be several pools, where the pool ends connections by their age or use, nor past code outside of sessions that waits for one. */
  canPassOn(slots: PoolSlots): boolean {
    if (slots !== this.#primary) return false
    const { ending, waitingCount, options } = this.driver.master
    const { maxUses = Number.POSITIVE_INFINITY, maxLifetimeSeconds = 0 } = options
    return !ending && waitingCount === 0 && maxUses === Number.POSITIVE_INFINITY && maxLifetimeSeconds === 0
  }

  #connectionOf(client: PostgresClient): PostgresConnection {
    let connection = this.#connections.get(client)
    if (connection === undefined) {
      connection = new PostgresConnection(client, this)
      this.#connections.set(client, connection)
    }
    return connection
  }

  begin(options: BeginOptions): readonly string[] {
    let begin = "BEGIN"
    if (options.isolation) begin += ` ISOLATION LEVEL ${options.isolation}`
    if (options.readOnly) begin += " READ ONLY"
    const statements = [begin]
    if (options.timeoutMs !== undefined) statements.push(`SET LOCAL statement_timeout = ${options.timeoutMs}`)
    for (const [name, value] of Object.entries(options.variables ?? {})) {
      statements.push(`SELECT set_config(${quote(name)}, ${quote(value)}, true)`)
    }
    return statements
  }

  isDeferrableRead(
    { deferBegin, isolation, readOnly, timeoutMs, variables }: BeginOptions,
    text: string,
    parameters: readonly unknown[] | undefined,
  ): boolean {
    if (!deferBegin || timeoutMs !== undefined || variables !== undefined) return false
    // What was learnt is the primary's.
    if (readOnly && this.#replicas) return false
    if (isolation === undefined ? !this.#isReadCommitted : isolation !== "READ COMMITTED") return false
    // Without a begin it has the isolation of the server, and a serializable read may be refused.
    if (this.isSerializable) return false
    return this.plainReads.has(text, parameters)
  }

  /**
   * The role, the database or the URI may set another isolation than PostgreSQL's own default. By the driver, as the `DataSource`'s
   * own methods may lead to a session that waits for this.
   */
  async learn(): Promise<void> {
    const [client, release] = await this.driver.obtainMasterConnection()
    // One of the start, which nobody listens to yet: ended between two questions it would end the process.
    this.#connectionOf(client)
    const ask = (text: string, parameters?: readonly unknown[]) =>
      new Promise<Record<string, unknown>[]>((resolve, reject) => {
        client.query(text, parameters, (error, result) => {
          if (error) reject(error)
          else resolve((result as PostgresResult).rows as Record<string, unknown>[])
        })
      })
    try {
      const [row] = await ask("SHOW default_transaction_isolation")
      const isolation = row?.default_transaction_isolation
      this.#isReadCommitted = isolation === "read committed"
      this.isSerializable = isolation === "serializable"
      const { question } = this.plainReads
      // Where the catalog may not be read, nothing is put off, and that is all.
      const rows = question && (await ask(question.text, question.parameters).catch(() => undefined))
      if (rows) this.plainReads.learn(rows)
    } catch (error) {
      release(true)
      throw error
    }
    release()
  }

  validate(options: BeginOptions): void {
    assertIsolation(this.dataSource, options.isolation)
    if (options.resolveCommits && this.dataSource.options.type !== "postgres")
      refuseResolve(this.dataSource.options.type)
  }

  stats(): PoolStats {
    // Whoever made the DataSource may have destroyed it.
    const pools = [this.driver.master, ...this.driver.slaves].filter((pool) => pool !== undefined)
    return {
      size: pools.reduce((sum, pool) => sum + pool.totalCount, 0),
      max: pools.reduce((sum, pool) => sum + pool.options.max, 0),
    }
  }

  async whenReturned(): Promise<void> {
    await this.#primary.whenFree()
    await this.#replicas?.whenFree()
  }

  close(): void {}

  cancel(client: PostgresClient): Promise<void> {
    return sendCancelRequest(this.driver.postgres.Connection, client)
  }

  readonly identification = IDENTIFICATION

  resolve(identity: string, timeoutMs: number): Promise<Outcome> {
    const { options } = this.driver.master as unknown as { options: object }
    return resolveCommit(() => new this.driver.postgres.Client(options), identity, timeoutMs)
  }
}

function toQueryResult(raw: PostgresResult | PostgresResult[]): QueryResult {
  const result = new QueryResult()
  // Several statements in one text: TypeORM hands their results on as they are, too.
  if (Array.isArray(raw)) {
    result.raw = raw.map((one) => one.rows)
    return result
  }
  result.records = raw.rows
  if (raw.rowCount !== null) result.affected = raw.rowCount
  result.raw = raw.command === "DELETE" || raw.command === "UPDATE" ? [raw.rows, raw.rowCount] : raw.rows
  return result
}

function quote(value: string): string {
  const doubled = value.replaceAll("'", "''")
  return value.includes("\\") ? ` E'${doubled.replaceAll("\\", "\\\\")}'` : `'${doubled}'`
}
