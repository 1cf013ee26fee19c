import { type DataSource, QueryResult } from "typeorm"
import { DatabaseUnavailableError } from "../errors"
import type { AcquireRequest, BeginOptions, Connection, Engine, PoolStats } from "./connection"
import { DeferrableReads } from "./deferrable-read"
import { describeTarget } from "./describe-target"
import { assertIsolation } from "./isolation"
import { acquireFromPool, type PoolAccess, PooledConnection, type PoolSlots } from "./pool"
import { isFatal, isServerError } from "./postgres-errors"
import { type DriverQueryConstructor, type PrefixedQueryConstructor, prefixedQuery } from "./postgres-query"
import { Slots } from "./slots"
import { isPlainSelect } from "./statement"

type Callback = (error: Error | undefined, result: unknown) => void

interface PostgresResult {
  readonly command?: string
  readonly rows: unknown[]
  readonly rowCount: number | null
}

/** The part of a pg client that is used; `getTransactionStatus` came with pg 8.18. */
interface PostgresClient {
  query(text: string, values: readonly unknown[] | undefined, callback: Callback): void
  query(query: object): unknown
  on(event: "error" | "end", listener: () => void): void
  getTransactionStatus?(): string | null
  readonly processID?: number
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
  readonly postgres: { readonly Query?: DriverQueryConstructor }
  obtainMasterConnection(): Promise<[PostgresClient, Release]>
  obtainSlaveConnection(): Promise<[PostgresClient, Release]>
  loadStreamDependency(): new (text: string, parameters: readonly unknown[] | undefined) => NodeJS.ReadableStream
}

class PostgresConnection extends PooledConnection implements Connection {
  #giveBack: Release | undefined

  constructor(
    readonly client: PostgresClient,
    private readonly engine: PostgresEngine,
  ) {
    super()
    // A client without a listener would end the process when its socket dies.
    const lost = () => {
      this.isAlive = false
    }
    client.on("error", lost)
    client.on("end", lost)
  }

  get isAborted(): boolean | undefined {
    // While the begin is under way the status is still that of before.
    if (!this.hasBegun) return undefined
    const status = this.client.getTransactionStatus?.()
    return status == null ? undefined : status !== "T"
  }

  /** @param giveBack of the driver's pool, for this time */
  checkOut(giveBack: Release): this {
    this.#giveBack = giveBack
    return this
  }

  execute(text: string, parameters: readonly unknown[] | undefined, prefix: readonly string[]): Promise<QueryResult> {
    if (prefix.length === 0) return this.#plain(text, parameters)
    const { Prefixed } = this.engine
    const mayHoldSeveral = text.includes(";") && !parameters?.length
    if (Prefixed && !mayHoldSeveral) return this.#prefixed(Prefixed, text, parameters, prefix)
    return this.#oneAfterAnother(text, parameters, prefix)
  }

  isPlainRead(text: string): boolean {
    return isPlainSelect(text)
  }

  async commit(): Promise<boolean> {
    const { command } = await this.#control("COMMIT")
    return command !== "ROLLBACK"
  }

  async rollback(): Promise<void> {
    await this.#control("ROLLBACK")
  }

  async stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    const QueryStream = this.engine.driver.loadStreamDependency()
    const stream = new QueryStream(text, parameters)
    this.client.query(stream)
    return stream
  }

  async cancel(): Promise<void> {
    await this.engine.cancel(this.client)
  }

  protected override canPassOn(slots: PoolSlots): boolean {
    return this.engine.canPassOn(slots)
  }

  protected override giveBack(isBroken: boolean): void {
    this.#giveBack?.(isBroken)
  }

  async #oneAfterAnother(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    await this.#control(prefix.join(";"))
    this.hasBegun = true
    return this.#plain(text, parameters)
  }

  #plain(text: string, parameters: readonly unknown[] | undefined): Promise<QueryResult> {
    return new Promise((resolve, reject) => {
      let failed: Promise<void> | undefined
      this.client.query(text, parameters, (error, result) => {
        // After an error that the client found by itself the server's answer comes, too.
        if (error) failed ??= this.#failed(error, reject)
        else if (failed === undefined) resolve(toQueryResult(result as PostgresResult))
      })
    })
  }

  #prefixed(
    Prefixed: PrefixedQueryConstructor,
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    return new Promise((resolve, reject) => {
      let failed: Promise<void> | undefined
      const query = new Prefixed(prefix, text, parameters, (error, result) => {
        if (query.prefixCompleted > 0) this.hasBegun = true
        if (error) failed ??= this.#failed(error, reject)
        else if (failed === undefined) resolve(toQueryResult(result as PostgresResult))
      })
      this.client.query(query)
    })
  }

  async #failed(error: Error, reject: (error: Error) => void): Promise<void> {
    if (isFatal(error)) this.isAlive = false
    // An error that the client found by itself (a value that cannot be encoded) comes before the server's answer to what
    // was already sent; the status is known only after it.
    else if (this.isAlive && !isServerError(error)) await this.#awaitStatus()
    reject(error)
  }

  async #awaitStatus(): Promise<void> {
    try {
      await this.#control("")
    } catch {
      // Its only use is to wait; where it fails, `isAlive` or the status says so.
    }
    if (this.client.getTransactionStatus?.() !== "I") this.hasBegun = true
  }

  #control(text: string): Promise<PostgresResult> {
    return new Promise((resolve, reject) => {
      this.client.query(text, undefined, (error, result) => {
        if (error && isFatal(error)) this.isAlive = false
        if (error) reject(error)
        else resolve(result as PostgresResult)
      })
    })
  }
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
  readonly #deferrable: DeferrableReads
  #isReadCommitted = false
  #isSerializable = true

  constructor(readonly dataSource: DataSource) {
    this.driver = dataSource.driver as unknown as PostgresDriver
    const { Query } = this.driver.postgres
    this.Prefixed = Query && "prepare" in Query.prototype ? prefixedQuery(Query) : undefined
    this.#primary = new Slots(this.driver.master.options.max, "connection")
    this.#deferrable = new DeferrableReads(dataSource)
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
      pool.on("connect", (client) => this.#connectionOf(client))
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

  isDeferrableRead({ deferBegin, isolation, readOnly, timeoutMs, variables }: BeginOptions, text: string): boolean {
    if (!deferBegin || readOnly || timeoutMs !== undefined || variables !== undefined) return false
    if (isolation === undefined ? !this.#isReadCommitted : isolation !== "READ COMMITTED") return false
    // Without a begin it has the isolation of the server, and a serializable read may be refused.
    if (this.#isSerializable) return false
    return this.#deferrable.has(text)
  }

  /** The role, the database or the URI may set another isolation than PostgreSQL's own default. */
  async learn(): Promise<void> {
    const rows: { default_transaction_isolation?: string }[] = await this.dataSource.query(
      "SHOW default_transaction_isolation",
    )
    const isolation = rows[0]?.default_transaction_isolation
    this.#isReadCommitted = isolation === "read committed"
    this.#isSerializable = isolation === "serializable"
  }

  validate(options: BeginOptions): void {
    assertIsolation(this.dataSource, options.isolation)
  }

  stats(): PoolStats {
    // Whoever made the DataSource may have destroyed it.
    const pools = [this.driver.master, ...this.driver.slaves].filter((pool) => pool !== undefined)
    return {
      size: pools.reduce((sum, pool) => sum + pool.totalCount, 0),
      max: pools.reduce((sum, pool) => sum + pool.options.max, 0),
    }
  }

  close(): void {}

  async cancel(client: PostgresClient): Promise<void> {
    if (client.processID === undefined) return
    // The pool's clients may all be busy, so the request goes over a connection of its own.
    const { Client } = this.driver.postgres as unknown as {
      Client: new (
        options: object,
      ) => {
        connect(): Promise<void>
        query(text: string, values: unknown[]): Promise<unknown>
        end(): Promise<void>
        on(event: "error", listener: () => void): void
      }
    }
    const canceller = new Client((this.driver.master as unknown as { options: object }).options)
    canceller.on("error", () => undefined)
    try {
      await canceller.connect()
      await canceller.query("SELECT pg_cancel_backend($1)", [client.processID])
    } catch (error) {
      throw new DatabaseUnavailableError("The running statement could not be cancelled.", { cause: error })
    } finally {
      await canceller.end().catch(() => undefined)
    }
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
