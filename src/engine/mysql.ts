import type { Readable } from "node:stream"
import { type DataSource, type DataSourceOptions, QueryResult } from "typeorm"
import { bareStatements } from "./bare-statements"
import type {
  AcquireRequest,
  BeginOptions,
  CommitAnswer,
  Connection,
  Engine,
  PoolStats,
  TransactionStatus,
} from "./connection"
import { describeTarget } from "./describe-target"
import { codeOf, failureKind } from "./failure-kind"
import { assertIsolation } from "./isolation"
import { killQuery } from "./mysql-cancel"
import { PlainReads } from "./plain-reads"
import { acquireFromPool, lostBeforeCommit, type PoolAccess, PooledConnection, type PoolSlots } from "./pool"
import { Slots } from "./slots"
import { assertVariables, refuseResolve } from "./variables"

type Callback = (error: Error | null, result: unknown) => void

interface RunningQuery {
  stream(): Readable
  once(event: "end" | "error", listener: () => void): void
}

/** The part of a mysql2 pool connection that is used; what begins with `_` is mysql2 3.24's. */
interface MysqlClient {
  readonly threadId: number | null
  readonly config: {
    readonly host?: string
    readonly port?: number
    readonly socketPath?: string
    readonly user?: string
    readonly password?: string
    readonly database?: string
    readonly ssl?: unknown
  }
  /** the command that is under way, which answers have not all come of */
  readonly _command?: unknown
  readonly stream: {
    readonly remoteAddress?: string
    readonly remotePort?: number
    readonly writable?: boolean
    destroy(): void
  }
  /** the text as it is sent, with the values in it */
  format(text: string, values: readonly unknown[] | undefined): string
  query(text: string, values: readonly unknown[] | undefined, callback: Callback): void
  query(text: string, values: readonly unknown[] | undefined): RunningQuery
  on(event: "error" | "end", listener: () => void): void
  release(): void
  destroy(): void
}

/** The part of TypeORM 1.1.1's `MysqlDriver` that is used; what begins with `_` is mysql2 3.24's. */
interface MysqlDriver {
  readonly version?: string
  readonly pool?: {
    readonly config: { readonly connectionLimit: number }
    readonly _allConnections: { readonly length: number }
    readonly _freeConnections: { readonly length: number }
    readonly _connectionQueue: { readonly length: number }
    readonly _closed: boolean
    on(event: "connection", listener: (client: MysqlClient) => void): void
  }
  readonly poolCluster?: unknown
  readonly mysql: { createConnection(options: object): MysqlClient }
  obtainMasterConnection(): Promise<MysqlClient>
  obtainSlaveConnection(): Promise<MysqlClient>
  createConnectionOptions(options: DataSourceOptions, credentials: object): object
}

const DEFAULT_POOL = 10
/** `SERVER_STATUS_IN_TRANS` of the protocol's status flags. */
const IN_TRANSACTION = 1
/** Keeps the limit that the account gives the connection, while a session has one of its own. */
const KEPT_LIMIT = "@routing_controllers_typeorm_limit"
/** What commits the transaction that is open, and may open another one. */
const COMMITS = /^(?:begin(?!\s+not\b)|start\s+transaction|commit)\b/i
const ROLLBACK = /^rollback\b(?!\s+(?:work\s+)?to\b)/i
/** What ends a transaction by its own name, also where another one is open behind it; anywhere in the text, so that most need no closer look. */
const NAMES_AN_END = /\b(?:begin|start|commit|rollback)\b/i
/** What runs other statements, of which nobody here knows what they do. */
const RUNS_OTHERS = /^(?:call|execute|begin\s+not|do|select|with|set|if|case|for|loop|while|repeat|\/\*)/i
/** What does not commit the transaction that it is part of; after the failure of one the server has rolled it back. */
const PART_OF_TRANSACTION =
  /^(?:\(*\s*select|insert|update|delete|replace|with|do|set|values|load|kill|show|explain|desc|describe|use)\b/i

const SAVEPOINT_OR_ROLLBACK = /^(?:savepoint|release|rollback)\b/i

class MysqlConnection extends PooledConnection implements Connection {
  /** the last status flags that came, as far as they tell of a transaction; rows come without any, and end none */
  #isOpen = false
  #limitVariable: string | undefined
  /** whether a result stream has not come to its end */
  #isStreaming = false
  /** what was sent last */
  #sent: readonly [text: string, parameters: readonly unknown[] | undefined] = ["", undefined]

  constructor(
    readonly client: MysqlClient,
    private readonly engine: MysqlEngine,
  ) {
    super()
    const lost = () => this.lost()
    client.on("error", lost)
    client.on("end", lost)
  }

  get status(): TransactionStatus {
    if (!this.isAlive) return "unknown"
    return this.#isOpen ? "open" : "none"
  }

  get isSettled(): boolean {
    return !this.client._command
  }

  async execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    if (this.cancelling) await this.cancelling
    if (prefix.length > 0) await this.control(prefix)
    let raw: unknown
    try {
      raw = await this.#send(text, parameters, "statement")
    } catch (error) {
      await this.#noticeEndAfterFailure(text)
      throw error
    }
    this.#noticeEnd(text)
    return toQueryResult(raw)
  }

  /** Each in a round trip of its own: the driver sends one statement after another. */
  async control(statements: readonly string[]): Promise<void> {
    this.isPrefixDone = false
    if (this.cancelling) await this.cancelling
    for (const statement of statements) {
      await this.#send(statement, undefined, "answer")
      if (statement.startsWith("START TRANSACTION")) this.hasBegun = true
      if (statement.startsWith(`SET ${KEPT_LIMIT}`)) this.#limitVariable = limitVariableOf(statement)
    }
    this.isPrefixDone = true
  }

  /** DDL does, and what nobody here knows. */
  mayCommit(text: string): boolean {
    return !bareStatements(text, "mysql").every(
      (one) => PART_OF_TRANSACTION.test(one) || SAVEPOINT_OR_ROLLBACK.test(one),
    )
  }

  /** `DO 0` does nothing and is answered with the status. */
  async askStatus(): Promise<void> {
    try {
      await this.#send("DO 0", undefined, "answer")
    } catch (error) {
      this.end(error as Error)
    }
  }

  isPlainRead(text: string, parameters: readonly unknown[] | undefined): boolean {
    return this.engine.plainReads.has(text, parameters)
  }

  async commit(): Promise<CommitAnswer> {
    // It might hit the COMMIT instead of the stream that was left.
    if (this.cancelling) await this.cancelling
    if (!this.isAlive || this.client.stream.writable === false) {
      return { outcome: "rolled back", error: lostBeforeCommit() }
    }
    try {
      await this.#send("COMMIT", undefined, "answer")
    } catch (error) {
      // What the server refuses by an answer of its own, it has rolled back; all else leaves open how far it came.
      const isRefused = this.isAlive && this.isSettled && !LEAVES_OPEN.has(codeOf(error) ?? "")
      return { outcome: isRefused ? "rolled back" : "unknown", error }
    }
    await this.#resetLimit()
    return { outcome: "committed" }
  }

  async rollback(): Promise<void> {
    await this.#send("ROLLBACK", undefined, "answer")
    await this.#resetLimit()
  }

  /** One that is left early is stopped in the database, and what had been sent of it is read to its end. */
  async stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    if (this.cancelling) await this.cancelling
    this.#sent = [text, parameters]
    const query = this.client.query(text, parameters)
    this.#isStreaming = true
    const ended = () => {
      this.#isStreaming = false
    }
    query.once("end", ended)
    query.once("error", ended)
    const stream = query.stream()
    this.limitStream(stream)
    stream.once("close", () => {
      if (this.#isStreaming) void this.stop(false)
    })
    return stream
  }

  protected override async requestCancel(): Promise<void> {
    if (this.isSettled || !this.isAlive || this.client.threadId === null) return
    await this.engine.cancel(this.client, this.client.threadId, this.client.format(...this.#sent))
  }

  protected override canPassOn(): boolean {
    return this.#limitVariable === undefined && this.engine.canPassOn()
  }

  protected override giveBack(isBroken: boolean): void {
    if (isBroken || this.#limitVariable) this.destroy()
    else this.client.release()
  }

  /**
   * `destroy()` of mysql2 3.24 only ends its side of the socket: a server that is in the middle of a large result would go on
   * waiting for it to be read, its transaction open, until `net_write_timeout` has passed.
   */
  protected override destroy(): void {
    this.client.destroy()
    this.client.stream.destroy()
  }

  protected override settle(error: Error): undefined {
    if (isFatal(error)) this.lost()
  }

  /** The limit is the connection's, not the transaction's, and must not go to the next one. */
  async #resetLimit(): Promise<void> {
    if (this.#limitVariable === undefined) return
    try {
      await this.#send(`SET SESSION ${this.#limitVariable} = ${KEPT_LIMIT}`, undefined, "answer")
      this.#limitVariable = undefined
    } catch {
      // What was committed is committed: `release()` ends a connection that keeps the limit, and that is all.
    }
  }

  #noticeEnd(text: string): void {
    if (!this.hasBegun || (this.#isOpen && !NAMES_AN_END.test(text))) return
    const [first = "", ...others] = bareStatements(text, "mysql")
    if (others.length > 0) {
      const hasEnded = [first, ...others].some((statement) => COMMITS.test(statement) || ROLLBACK.test(statement))
      if (hasEnded || !this.#isOpen) this.endSeen = "unknown"
    } else if (COMMITS.test(first)) this.endSeen = "committed"
    else if (ROLLBACK.test(first)) this.endSeen = "rolled back"
    // DDL commits.
    else if (!this.#isOpen) this.endSeen = RUNS_OTHERS.test(first) ? "unknown" : "committed"
  }

  /** An error comes without the status; a deadlock has ended the transaction, and so has DDL that failed. */
  async #noticeEndAfterFailure(text: string): Promise<void> {
    if (!this.hasBegun || !this.isAlive || !this.isSettled) return
    await this.askStatus()
    if (!this.isAlive || this.#isOpen) return
    const [first = "", ...others] = bareStatements(text, "mysql")
    if (others.length > 0 || COMMITS.test(first)) this.endSeen = "unknown"
    else if (PART_OF_TRANSACTION.test(first)) this.endSeen = "rolled back"
    else this.endSeen = RUNS_OTHERS.test(first) ? "unknown" : "committed"
  }

  #send(text: string, parameters: readonly unknown[] | undefined, limit: "answer" | "statement"): Promise<unknown> {
    this.#sent = [text, parameters]
    return this.ask(limit === "answer" ? text : "a statement", limit, (done) => {
      this.client.query(text, parameters, (error, result) => {
        if (error === null) this.#keepStatus(result)
        done(error, result)
      })
    })
  }

  #keepStatus(result: unknown): void {
    const last: unknown = Array.isArray(result) ? result.at(-1) : result
    const { serverStatus } = (last ?? {}) as { serverStatus?: unknown }
    if (typeof serverStatus === "number") this.#isOpen = (serverStatus & IN_TRANSACTION) !== 0
  }
}

/** The server says that the COMMIT failed half way. */
const LEAVES_OPEN = new Set(["ER_ERROR_DURING_COMMIT"])

function limitVariableOf(statement: string): string {
  return /max_(?:statement|execution)_time/.exec(statement)?.[0] ?? ""
}

/** MySQL and MariaDB: the driver's pool behind a queue that a waiter can leave. */
export class MysqlEngine implements Engine {
  readonly #driver: MysqlDriver
  readonly #primary: PoolSlots
  readonly #replicas: PoolSlots | undefined
  readonly #fromPrimary: PoolAccess<MysqlClient, MysqlConnection>
  readonly #fromReplicas: PoolAccess<MysqlClient, MysqlConnection>
  readonly #isMariaDb: boolean
  readonly #connections = new WeakMap<MysqlClient, MysqlConnection>()
  readonly plainReads: PlainReads
  #isReadCommitted = false
  #seesOnlyCommitted = false
  isSerializable = true

  constructor(readonly dataSource: DataSource) {
    this.#driver = dataSource.driver as unknown as MysqlDriver
    this.plainReads = new PlainReads(dataSource)
    this.#isMariaDb =
      dataSource.options.type === "mariadb" || /mariadb|^(5\.5|10|11|12)\./i.test(this.#driver.version ?? "")
    const { poolSize = DEFAULT_POOL, replication } = dataSource.options as {
      poolSize?: number
      replication?: { slaves: readonly unknown[] }
    }
    this.#fromPrimary = this.#access(
      () => this.#driver.obtainMasterConnection(),
      () => (this.#driver.pool?._freeConnections.length ?? 0) > 0,
    )
    this.#fromReplicas = this.#access(
      () => this.#driver.obtainSlaveConnection(),
      () => false,
    )
    this.#primary = new Slots(this.#driver.pool?.config.connectionLimit ?? poolSize, "connection")
    if (replication && replication.slaves.length > 0) {
      this.#replicas = new Slots(poolSize * replication.slaves.length, "replica connection")
    }
    this.#driver.pool?.on("connection", (client) => {
      this.#connectionOf(client).openedAt = performance.now()
    })
  }

  get waiting(): number {
    return this.#primary.waiting + (this.#replicas?.waiting ?? 0)
  }

  acquire(request: AcquireRequest): Promise<Connection> {
    return request.onReplica && this.#replicas
      ? acquireFromPool(request, this.#replicas, this.#fromReplicas)
      : acquireFromPool(request, this.#primary, this.#fromPrimary)
  }

  #access(open: () => Promise<MysqlClient>, hasIdle: () => boolean): PoolAccess<MysqlClient, MysqlConnection> {
    return {
      open: async () => open(),
      hasIdle,
      wrap: (client) => this.#connectionOf(client),
      discard: (client) => client.release(),
      describe: () => describeTarget(this.dataSource.options),
    }
  }

  #connectionOf(client: MysqlClient): MysqlConnection {
    let connection = this.#connections.get(client)
    if (connection === undefined) {
      connection = new MysqlConnection(client, this)
      this.#connections.set(client, connection)
    }
    return connection
  }

  /** Not past code outside of sessions that waits for one. A cluster of replicas has no pool of its own to ask. */
  canPassOn(): boolean {
    const { pool } = this.#driver
    return pool !== undefined && !pool._closed && pool._connectionQueue.length === 0
  }

  /** The isolation of `SET TRANSACTION` is that of the next transaction only. */
  begin(options: BeginOptions): readonly string[] {
    const statements: string[] = []
    if (options.timeoutMs !== undefined) {
      const [variable, limit] = this.#isMariaDb
        ? ["max_statement_time", options.timeoutMs / 1000]
        : ["max_execution_time", options.timeoutMs]
      const own = `@@SESSION.${variable}`
      // The account may have a stricter one, which goes on counting.
      statements.push(`SET ${KEPT_LIMIT} = ${own}, ${own} = IF(${own} > 0, LEAST(${own}, ${limit}), ${limit})`)
    }
    if (options.isolation) statements.push(`SET TRANSACTION ISOLATION LEVEL ${options.isolation}`)
    statements.push(options.readOnly ? "START TRANSACTION READ ONLY" : "START TRANSACTION")
    return statements
  }

  isDeferrableRead(
    { deferBegin, isolation, readOnly, timeoutMs }: BeginOptions,
    text: string,
    parameters: readonly unknown[] | undefined,
  ): boolean {
    if (!deferBegin || timeoutMs !== undefined) return false
    // What was learnt is the primary's.
    if (readOnly && this.#replicas) return false
    if (isolation === undefined ? !this.#isReadCommitted : isolation !== "READ COMMITTED") return false
    if (!this.#seesOnlyCommitted) return false
    return this.plainReads.has(text, parameters)
  }

  /**
   * `REPEATABLE READ` unless the server was told otherwise: there, a transaction's first read decides what the next ones see.
   * A read without a begin has the isolation of the server: alone it sees the same as at `READ COMMITTED`, where it sees
   * nothing uncommitted, and where `autocommit` ends its transaction with it.
   * By the driver, as the `DataSource`'s own methods may lead to a session that waits for this.
   */
  async learn(): Promise<void> {
    const client = await this.#driver.obtainMasterConnection()
    const ask = (text: string, parameters?: readonly unknown[]) =>
      new Promise<Record<string, unknown>[]>((resolve, reject) => {
        client.query(text, parameters, (error, rows) => {
          if (error) reject(error)
          else resolve(rows as Record<string, unknown>[])
        })
      })
    try {
      const name = this.#isMariaDb ? "tx_isolation" : "transaction_isolation"
      const [row] = await ask(`SELECT @@${name} AS isolation, @@autocommit AS autocommit`)
      const { isolation, autocommit } = row ?? {}
      this.#isReadCommitted = isolation === "READ-COMMITTED"
      this.isSerializable = isolation === "SERIALIZABLE"
      this.#seesOnlyCommitted = Number(autocommit) === 1 && (this.#isReadCommitted || isolation === "REPEATABLE-READ")
      const { question } = this.plainReads
      // Where the catalog may not be read, nothing is put off, and that is all.
      const rows = question && (await ask(question.text, question.parameters).catch(() => undefined))
      if (rows) this.plainReads.learn(rows)
    } catch (error) {
      client.destroy()
      throw error
    }
    client.release()
  }

  validate(options: BeginOptions): void {
    assertIsolation(this.dataSource, options.isolation)
    if (options.variables) assertVariables(this.dataSource.options.type)
    if (options.resolveCommits) refuseResolve(this.dataSource.options.type)
  }

  stats(): PoolStats {
    const max = this.#primary.max + (this.#replicas?.max ?? 0)
    return { size: this.#driver.pool?._allConnections.length ?? 0, max }
  }

  async whenReturned(): Promise<void> {
    await this.#primary.whenFree()
    await this.#replicas?.whenFree()
  }

  close(): void {}

  cancel({ config, stream }: MysqlClient, threadId: number, text: string): Promise<void> {
    const { host, port, socketPath, user: username, password, database, ssl } = config
    // The address of that very connection; but a certificate is made out to the name.
    const address = ssl ? { host, port } : { host: stream.remoteAddress ?? host, port: stream.remotePort ?? port }
    const options = {
      ...this.#driver.createConnectionOptions(this.dataSource.options, { ...address, username, password, database }),
      ...(socketPath && { socketPath }),
    }
    return killQuery(this.#driver.mysql.createConnection(options), threadId, text)
  }
}

function toQueryResult(raw: unknown): QueryResult {
  const result = new QueryResult()
  result.raw = raw
  if (Array.isArray(raw)) result.records = [...raw]
  else if (typeof raw === "object" && raw !== null && "affectedRows" in raw)
    result.affected = raw.affectedRows as number
  return result
}

/** What the driver marks as fatal has ended the connection; a killed one says so before its socket closes. */
function isFatal(error: Error): boolean {
  if ("fatal" in error && error.fatal === true) return true
  return failureKind(error) === "unavailable"
}
