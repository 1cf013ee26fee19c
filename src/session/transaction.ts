import { type DataSource, QueryFailedError, type QueryResult, type QueryRunner } from "typeorm"
import type { AcquireRequest, BeginOptions, Connection } from "../engine/connection"
import { DatabaseUnavailableError, TransactionAbortedError } from "../errors"
import type { Block } from "./block"
import type { EngineSource } from "./engine-source"
import { nextTransactionId, type RecordedTransaction, type SessionRecord } from "./session-record"

/** `ROLLBACK TO SAVEPOINT` written by hand is the one statement that an aborted transaction still takes. */
const ROLLBACK_TO = /^\s*rollback\s+(work\s+|transaction\s+)?to\b/i

/**
 * One transaction, from its begin to its end, on one connection. The begin is sent with the first statement.
 * Calls do not overlap: the session's queue sends one after another.
 */
export class Transaction implements RecordedTransaction {
  readonly id = nextTransactionId()
  readonly startedAt = performance.now()
  connectedAt = this.startedAt
  /** whether any statement may have changed something */
  wrote = false
  #connection: Connection | undefined
  #unsentBegin: readonly string[] = []
  #firstFailure: { readonly error: unknown } | undefined
  #isLost = false

  constructor(
    private readonly source: EngineSource,
    private readonly runner: QueryRunner,
    private readonly options: BeginOptions,
    private readonly request: AcquireRequest,
    private readonly record: SessionRecord,
    private readonly report: (error: unknown) => void,
  ) {}

  get isOpen(): boolean {
    return this.#connection !== undefined || this.#isLost
  }

  get isAborted(): boolean {
    return this.#firstFailure !== undefined || this.#connection?.isAborted === true
  }

  /**
   * Takes the connection, and starts the `DataSource` where nobody has; no begin is sent yet.
   * @throws what `EngineSource.start`, `Engine.validate` and `Engine.acquire` throw; the transaction has not begun
   */
  async connect(): Promise<Connection> {
    if (this.#connection) return this.#connection
    const engine = this.source.engine ?? (await this.source.start())
    engine.validate(this.options)
    this.#connection = await engine.acquire(this.request)
    this.connectedAt = performance.now()
    this.#unsentBegin = engine.begin(this.options)
    return this.#connection
  }

  /** Gives up waiting for a connection; nothing to do where it has one. */
  cancelConnect(reason: Error): void {
    this.request.cancel?.(reason)
  }

  /**
   * Runs a statement, with the begin and the savepoints of `blocks` in front of it where the server does not know them yet.
   * @throws {TransactionAbortedError} where an earlier statement failed; nothing is sent
   * @throws {QueryFailedError} the transaction is then aborted up to the innermost savepoint
   */
  async execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    blocks: readonly Block[],
  ): Promise<QueryResult> {
    if (this.#isLost || (this.#firstFailure && !ROLLBACK_TO.test(text))) throw this.abortedError("This statement")
    let connection = await this.connect()
    for (let staleConnections = 0; ; ) {
      const prefix = this.#prefix(blocks)
      if (!this.options.readOnly && !this.wrote) this.wrote = !connection.isPlainRead(text)
      if (this.#unsentBegin.length > 0) await this.#broadcast("BeforeTransactionStart")
      try {
        const result = await this.#traced(text, parameters, prefix, () => connection.execute(text, parameters, prefix))
        await this.#sent(blocks)
        if (this.#firstFailure && connection.isAborted !== true) this.#firstFailure = undefined
        return result
      } catch (error) {
        // Dead before it had answered the begin: a stale pooled connection. Nothing has run, so another one may try.
        const isStale = !connection.isAlive && !connection.hasBegun && this.#unsentBegin.length > 0
        if (isStale && staleConnections++ < (this.source.engine?.stats().max ?? 0)) {
          this.#connection = undefined
          connection.release(true)
          connection = await this.connect()
          continue
        }
        if (connection.hasBegun) await this.#sent(blocks)
        throw this.#fail(text, parameters, error)
      }
    }
  }

  async stream(
    text: string,
    parameters: readonly unknown[] | undefined,
    blocks: readonly Block[],
  ): Promise<NodeJS.ReadableStream> {
    if (this.isAborted) throw this.abortedError("This stream")
    const connection = await this.#ready(blocks)
    if (!this.options.readOnly && !this.wrote) this.wrote = !connection.isPlainRead(text)
    this.#log(text, parameters, [])
    try {
      const stream = await connection.stream(text, parameters)
      stream.on("error", (error) => this.#fail(text, parameters, error))
      return stream
    } catch (error) {
      throw this.#fail(text, parameters, error)
    }
  }

  /** The driver's client, once the begin and the savepoints are known to the server. */
  async client(blocks: readonly Block[]): Promise<unknown> {
    return (await this.#ready(blocks)).client
  }

  async releaseSavepoint(block: Block): Promise<void> {
    if (!block.isSent) return
    if (this.isAborted) throw this.abortedError("The transaction() block")
    await this.#control(`RELEASE SAVEPOINT ${block.name}`)
  }

  /** @param wasAborted whether the transaction was aborted already before the block */
  async rollbackToSavepoint(block: Block, wasAborted: boolean): Promise<void> {
    if (this.#isLost) return
    // Without the savepoint on the server, what failed in the block had not begun.
    if (block.isSent) await this.#control(`ROLLBACK TO SAVEPOINT ${block.name}`)
    if (!wasAborted) this.#firstFailure = undefined
  }

  /**
   * Commits and gives the connection back.
   * @throws {TransactionAbortedError} where a statement had failed; rolled back, the connection is given back
   * @throws {QueryFailedError} where the database refuses the COMMIT; rolled back, the connection is given back
   * @throws {DatabaseUnavailableError} where the connection is lost meanwhile: whether it was committed is not known
   */
  async commit(): Promise<void> {
    if (this.isAborted) {
      const error = this.abortedError("commit()")
      this.record.failed(this, error)
      await this.#undo()
      throw error
    }
    const connection = this.#connection
    if (connection === undefined || this.#unsentBegin.length > 0) return this.#release(false)
    await this.#broadcast("BeforeTransactionCommit")
    let isCommitted: boolean
    try {
      this.#log("COMMIT", undefined, [])
      isCommitted = await connection.commit()
    } catch (error) {
      this.record.failed(this, error)
      this.#logError(error, "COMMIT", undefined)
      const isBroken = !connection.isAlive || !(await this.#clean(connection))
      const wasLost = !connection.isAlive
      this.#release(isBroken)
      throw wasLost ? outcomeUnknown(error) : new QueryFailedError("COMMIT", [], error as Error)
    }
    this.#release(false)
    if (!isCommitted) {
      const error = this.abortedError("commit()")
      this.record.failed(this, error)
      throw error
    }
    this.record.committed(this)
    await this.#broadcast("AfterTransactionCommit")
  }

  /**
   * Rolls back and gives the connection back; one on which ROLLBACK fails is ended instead. Never rejects: the work is undone
   * either way, and what failed is reported.
   */
  async rollback(): Promise<void> {
    if (!this.#isLost) this.record.rolledBack(this)
    await this.#undo()
  }

  async #undo(): Promise<void> {
    const connection = this.#connection
    if (connection === undefined || this.#unsentBegin.length > 0) return this.#release(false)
    await this.#broadcast("BeforeTransactionRollback")
    this.#log("ROLLBACK", undefined, [])
    this.#release(!connection.isAlive || !(await this.#clean(connection)))
    await this.#broadcast("AfterTransactionRollback")
  }

  async cancel(): Promise<void> {
    try {
      await this.#connection?.cancel()
    } catch (error) {
      this.report(error)
    }
  }

  abortedError(what: string): TransactionAbortedError {
    const cause = this.#firstFailure?.error
    const reason = this.#isLost ? "its connection was lost" : "an earlier statement in it failed"
    return new TransactionAbortedError(
      `${what} was refused: the transaction is aborted, because ${reason}, and nothing of it is kept. ` +
        "Let the error through, call rollback() before going on, or put what may fail into db.transaction(...), " +
        "which is a savepoint.",
      { cause },
    )
  }

  /** Sends the begin and the savepoints with a statement that does nothing; a stale connection is replaced on the way. */
  async #ready(blocks: readonly Block[]): Promise<Connection> {
    await this.connect()
    if (this.#prefix(blocks).length > 0) await this.execute("SELECT 1", [], blocks)
    return this.connect()
  }

  #prefix(blocks: readonly Block[]): readonly string[] {
    const unsent = blocks.filter((block) => !block.isSent)
    if (unsent.length === 0) return this.#unsentBegin
    return [...this.#unsentBegin, ...unsent.map((block) => `SAVEPOINT ${block.name}`)]
  }

  async #sent(blocks: readonly Block[]): Promise<void> {
    for (const block of blocks) block.isSent = true
    if (this.#unsentBegin.length === 0) return
    this.#unsentBegin = []
    this.record.begun(this)
    await this.#broadcast("AfterTransactionStart")
  }

  /** Marks the transaction as aborted, and ends its connection where that is lost. */
  #fail(text: string, parameters: readonly unknown[] | undefined, error: unknown): Error {
    const failure = new QueryFailedError(text, parameters as unknown[] | undefined, error as Error)
    this.#firstFailure ??= { error: failure }
    const connection = this.#connection
    if (connection && !connection.isAlive) {
      this.#isLost = true
      this.record.failed(this, error)
      this.#release(true)
    }
    return failure
  }

  async #control(text: string): Promise<void> {
    const connection = await this.connect()
    try {
      await this.#traced(text, undefined, [], () => connection.execute(text, undefined, []))
    } catch (error) {
      throw this.#fail(text, undefined, error)
    }
  }

  async #clean(connection: Connection): Promise<boolean> {
    try {
      await connection.rollback()
      return true
    } catch (error) {
      this.report(error)
      return false
    }
  }

  #release(isBroken: boolean): void {
    const connection = this.#connection
    this.#connection = undefined
    connection?.release(isBroken)
  }

  async #traced(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
    send: () => Promise<QueryResult>,
  ): Promise<QueryResult> {
    const { options, logger } = this.#dataSource
    const isHeard = this.#isHeard()
    this.#log(text, parameters, prefix)
    if (isHeard) await this.#broadcast("BeforeQuery", text, parameters)
    const startedAt = Date.now()
    try {
      const result = await send()
      const elapsedMs = Date.now() - startedAt
      const limitMs = options.maxQueryExecutionTime
      if (limitMs && elapsedMs > limitMs) logger.logQuerySlow(elapsedMs, text, parameters as unknown[], this.runner)
      if (isHeard) await this.#broadcast("AfterQuery", text, parameters, true, elapsedMs, result.raw)
      return result
    } catch (error) {
      this.#logError(error, text, parameters)
      if (isHeard) await this.#broadcast("AfterQuery", text, parameters, false, undefined, undefined, error)
      throw error
    }
  }

  #log(text: string, parameters: readonly unknown[] | undefined, prefix: readonly string[]): void {
    const { logger } = this.#dataSource
    for (const statement of prefix) logger.logQuery(statement, undefined, this.runner)
    logger.logQuery(text, parameters as unknown[], this.runner)
  }

  #logError(error: unknown, text: string, parameters: readonly unknown[] | undefined): void {
    this.#dataSource.logger.logQueryError(error as Error, text, parameters as unknown[], this.runner)
  }

  async #broadcast(event: string, ...details: unknown[]): Promise<void> {
    if (!this.#isHeard()) return
    const broadcaster = this.runner.broadcaster as unknown as {
      broadcast(event: string, ...details: unknown[]): Promise<void>
    }
    await broadcaster.broadcast(event, ...details)
  }

  /** Whether any subscriber listens to statements or transactions; those that listen to entities only cost nothing here. */
  #isHeard(): boolean {
    const { subscribers } = this.#dataSource
    return subscribers.length > 0 && subscribers.some((subscriber) => EVENTS.some((event) => event in subscriber))
  }

  get #dataSource(): DataSource {
    return this.source.dataSource
  }
}

/** TypeORM's subscriber methods for what a query runner does by itself. */
const EVENTS = [
  "beforeQuery",
  "afterQuery",
  "beforeTransactionStart",
  "afterTransactionStart",
  "beforeTransactionCommit",
  "afterTransactionCommit",
  "beforeTransactionRollback",
  "afterTransactionRollback",
]

function outcomeUnknown(cause: unknown): DatabaseUnavailableError {
  return new DatabaseUnavailableError(
    "The connection was lost while COMMIT was under way: whether the transaction was committed is not known. " +
      "Before the request is tried again, look whether its work is there.",
    { cause },
  )
}
