import { type DataSource, type DataSourceOptions, QueryResult } from "typeorm"
import { DatabaseUnavailableError } from "../errors"
import type { AcquireRequest, BeginOptions, Connection, Engine, PoolStats } from "./connection"
import { DeferrableReads } from "./deferrable-read"
import { describeTarget } from "./describe-target"
import { codeOf, failureKind } from "./failure-kind"
import { assertIsolation } from "./isolation"
import { acquireFromPool, type PoolAccess, PooledConnection, type PoolSlots } from "./pool"
import { Slots } from "./slots"
import { isPlainSelect } from "./statement"
import { assertVariables } from "./variables"

type Callback = (error: Error | null, result: unknown) => void

interface RunningQuery {
  stream(): NodeJS.ReadableStream
  once(event: "end" | "error", listener: () => void): void
}

/** The part of a mysql2 pool connection that is used. */
interface MysqlClient {
  readonly threadId: number | null
  query(text: string, values: readonly unknown[] | undefined, callback: Callback): void
  query(text: string, values: readonly unknown[] | undefined): RunningQuery
  on(event: "error" | "end", listener: () => void): void
  release(): void
  destroy(): void
  end(): void
  readonly stream: { destroy(): void }
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
  }
  readonly poolCluster?: unknown
  readonly mysql: { createConnection(options: object): MysqlClient }
  obtainMasterConnection(): Promise<MysqlClient>
  obtainSlaveConnection(): Promise<MysqlClient>
  createConnectionOptions(options: DataSourceOptions, credentials: object): object
}

const DEFAULT_POOL = 10
const TIMEOUT = /^SET SESSION max_(statement|execution)_time = /

class MysqlConnection extends PooledConnection implements Connection {
  /** Not told by the protocol in a way that the driver hands on; the session keeps count of failures itself. */
  readonly isAborted = undefined
  #timeoutVariable: string | undefined

  constructor(
    readonly client: MysqlClient,
    private readonly engine: MysqlEngine,
  ) {
    super()
    const lost = () => {
      this.isAlive = false
    }
    client.on("error", lost)
    client.on("end", lost)
  }

  async execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    await this.#sendAll(prefix)
    return toQueryResult(await this.#send(text, parameters))
  }

  isPlainRead(text: string): boolean {
    return isPlainSelect(text)
  }

  async commit(): Promise<boolean> {
    await this.#send("COMMIT", undefined)
    await this.#resetTimeout()
    return true
  }

  async rollback(): Promise<void> {
    await this.#send("ROLLBACK", undefined)
    await this.#resetTimeout()
  }

  async stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    const query = this.client.query(text, parameters)
    let hasEnded = false
    const ended = () => {
      hasEnded = true
    }
    query.once("end", ended)
    query.once("error", ended)
    const stream = query.stream()
    stream.once("close", () => {
      // The server goes on sending rows to a stream that was destroyed; only ending the connection stops it.
      if (hasEnded) return
      this.isAlive = false
      this.#destroy()
    })
    return stream
  }

  async cancel(): Promise<void> {
    if (this.client.threadId !== null) await this.engine.cancel(this.client.threadId)
  }

  protected override canPassOn(): boolean {
    return this.#timeoutVariable === undefined && this.engine.canPassOn()
  }

  protected override giveBack(isBroken: boolean): void {
    if (isBroken || this.#timeoutVariable) this.#destroy()
    else this.client.release()
  }

  /**
   * `destroy()` of mysql2 3.24 only ends its side of the socket: a server that is in the middle of a large result would go on
   * waiting for it to be read, its transaction open, until `net_write_timeout` has passed.
   */
  #destroy(): void {
    this.client.destroy()
    this.client.stream.destroy()
  }

  /** Begin and savepoints, each in a round trip of its own: the driver sends one statement after another. */
  async #sendAll(prefix: readonly string[]): Promise<void> {
    for (const statement of prefix) {
      await this.#send(statement, undefined)
      if (statement.startsWith("START TRANSACTION")) this.hasBegun = true
      if (TIMEOUT.test(statement)) this.#timeoutVariable = statement.slice(0, statement.indexOf(" = "))
    }
  }

  /** The timeout is the connection's, not the transaction's, and must not go to the next one. */
  async #resetTimeout(): Promise<void> {
    if (this.#timeoutVariable === undefined) return
    try {
      await this.#send(`${this.#timeoutVariable} = DEFAULT`, undefined)
      this.#timeoutVariable = undefined
    } catch {
      // What was committed is committed: `release()` ends a connection that keeps the variable, and that is all.
    }
  }

  #send(text: string, parameters: readonly unknown[] | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.client.query(text, parameters, (error, result) => {
        if (error === null) return resolve(result)
        if (isFatal(error)) this.isAlive = false
        reject(error)
      })
    })
  }
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
  readonly #deferrable: DeferrableReads
  #isReadCommitted = false
  #seesOnlyCommitted = false

  constructor(readonly dataSource: DataSource) {
    this.#driver = dataSource.driver as unknown as MysqlDriver
    this.#deferrable = new DeferrableReads(dataSource)
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
      wrap: (client) => {
        let connection = this.#connections.get(client)
        if (connection === undefined) {
          connection = new MysqlConnection(client, this)
          this.#connections.set(client, connection)
        }
        return connection
      },
      discard: (client) => client.release(),
      describe: () => describeTarget(this.dataSource.options),
    }
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
      statements.push(
        this.#isMariaDb
          ? `SET SESSION max_statement_time = ${options.timeoutMs / 1000}`
          : `SET SESSION max_execution_time = ${options.timeoutMs}`,
      )
    }
    if (options.isolation) statements.push(`SET TRANSACTION ISOLATION LEVEL ${options.isolation}`)
    statements.push(options.readOnly ? "START TRANSACTION READ ONLY" : "START TRANSACTION")
    return statements
  }

  isDeferrableRead({ deferBegin, isolation, readOnly, timeoutMs }: BeginOptions, text: string): boolean {
    if (!deferBegin || readOnly || timeoutMs !== undefined) return false
    if (isolation === undefined ? !this.#isReadCommitted : isolation !== "READ COMMITTED") return false
    if (!this.#seesOnlyCommitted) return false
    return this.#deferrable.has(text)
  }

  /**
   * `REPEATABLE READ` unless the server was told otherwise: there, a transaction's first read decides what the next ones see.
   * A read without a begin has the isolation of the server: alone it sees the same as at `READ COMMITTED`, where it sees
   * nothing uncommitted, and where `autocommit` ends its transaction with it.
   */
  async learn(): Promise<void> {
    const name = this.#isMariaDb ? "tx_isolation" : "transaction_isolation"
    const rows: { isolation?: string; autocommit?: unknown }[] = await this.dataSource.query(
      `SELECT @@${name} AS isolation, @@autocommit AS autocommit`,
    )
    const { isolation, autocommit } = rows[0] ?? {}
    this.#isReadCommitted = isolation === "READ-COMMITTED"
    this.#seesOnlyCommitted = Number(autocommit) === 1 && (this.#isReadCommitted || isolation === "REPEATABLE-READ")
  }

  validate(options: BeginOptions): void {
    assertIsolation(this.dataSource, options.isolation)
    if (options.variables) assertVariables(this.dataSource.options.type)
  }

  stats(): PoolStats {
    const max = this.#primary.max + (this.#replicas?.max ?? 0)
    return { size: this.#driver.pool?._allConnections.length ?? 0, max }
  }

  close(): void {}

  async cancel(threadId: number): Promise<void> {
    const { options } = this.dataSource
    const { replication } = options as { replication?: { master: object } }
    // The pool's connections may all be busy, so the request goes over a connection of its own.
    const canceller = this.#driver.mysql.createConnection(
      this.#driver.createConnectionOptions(options, replication?.master ?? options),
    )
    canceller.on("error", () => undefined)
    try {
      await new Promise<void>((resolve, reject) => {
        canceller.query(`KILL QUERY ${threadId}`, undefined, (error) => (error ? reject(error) : resolve()))
      })
    } catch (error) {
      if (codeOf(error) === "ER_NO_SUCH_THREAD") return
      throw new DatabaseUnavailableError("The running statement could not be cancelled.", { cause: error })
    } finally {
      canceller.destroy()
    }
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
