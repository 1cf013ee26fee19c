import { QueryFailedError, type QueryResult } from "typeorm"
import type { AcquireRequest, BeginOptions, Connection, Engine } from "../engine/connection"
import { isRollbackTo } from "../engine/statement"
import type { TransactionAbortedError } from "../errors"
import { type Block, withSavepoints } from "./block"
import type { EngineSource } from "./engine-source"
import type { ErrorSink, Hook } from "./hooks"
import type { QueryEvents } from "./query-events"
import { hasRolledBack } from "./rollback"
import { nextTransactionId, type RecordedTransaction, type SessionRecord } from "./session-record"
import { abortedError, outcomeUnknown, statementError } from "./transaction-errors"

/** The session that it belongs to. */
export interface TransactionOwner extends ErrorSink {
  /** Called where it got no connection and is over before it began. */
  forgetTransaction(transaction: Transaction): void
}

const NO_PREFIX: readonly string[] = []

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
  #unsentBegin = NO_PREFIX
  #mayDefer: boolean
  #firstFailure: { readonly error: unknown } | undefined
  #isLost = false
  #isBegunRecorded = false
  #isAnnounced = false
  #hasEnded: "Commit" | "Rollback" | undefined
  #cancelling: Promise<void> | undefined

  constructor(
    private readonly source: EngineSource,
    private readonly events: QueryEvents,
    private readonly options: BeginOptions,
    private readonly request: AcquireRequest,
    private readonly record: SessionRecord,
    private readonly owner: TransactionOwner,
  ) {
    this.#mayDefer = options.deferBegin
  }

  get isOpen(): boolean {
    return this.#connection !== undefined || this.#isLost
  }

  get isAborted(): boolean {
    if (this.#firstFailure !== undefined) return true
    // Before its begin the server has no transaction, which looks the same as one that it gave up.
    return this.#unsentBegin.length === 0 && this.#connection?.isAborted === true
  }

  /**
   * Takes the connection, and starts the `DataSource` where nobody has; no begin is sent yet.
   * @throws what `EngineSource.start`, `Engine.validate` and `Engine.acquire` throw; the transaction has not begun
   */
  async connect(): Promise<Connection> {
    if (this.#connection) return this.#connection
    try {
      const engine = this.source.engine ?? (await this.#startEngine())
      this.#connection = await engine.acquire(this.request)
      this.connectedAt = performance.now()
      this.#unsentBegin = engine.begin(this.options)
      return this.#connection
    } catch (error) {
      this.owner.forgetTransaction(this)
      throw error
    }
  }

  async #startEngine(): Promise<Engine> {
    const engine = await this.source.start()
    engine.validate(this.options)
    return engine
  }

  #connectAtOnce(): Connection | undefined {
    const { engine } = this.source
    this.#connection = engine?.acquireAtOnce?.(this.request)
    if (engine && this.#connection) this.#unsentBegin = engine.begin(this.options)
    return this.#connection
  }

  /** Gives up waiting for a connection; nothing to do where it has one. */
  cancelConnect(reason: Error): void {
    this.request.wait?.cancel(reason)
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
    if (this.#isLost || (this.#firstFailure && !isRollbackTo(text))) throw this.abortedError("This statement")
    let connection = this.#connection ?? this.#connectAtOnce() ?? (await this.connect())
    for (let staleConnections = 0; ; ) {
      const isDeferred = this.#isDeferrable(text)
      if (!isDeferred) {
        if (!this.options.readOnly && !this.wrote) this.wrote = !connection.isPlainRead(text)
        if (!this.#isAnnounced) await this.#announceBegin()
      }
      const prefix = isDeferred ? NO_PREFIX : withSavepoints(this.#unsentBegin, blocks)
      try {
        const result = await this.events.execute(connection, text, parameters, prefix)
        if (prefix.length > 0) await this.#sent(blocks)
        if (this.#firstFailure && connection.isAborted !== true) this.#firstFailure = undefined
        return result
      } catch (error) {
        this.events.logError(error, text, parameters)
        // Dead before it had answered the begin: a stale pooled connection. Nothing has run, so another one may try.
        const isStale = !connection.isAlive && !connection.hasBegun && this.#unsentBegin.length > 0
        if (isStale && staleConnections++ < (this.source.engine?.stats().max ?? 0)) {
          this.#connection = undefined
          connection.release(true)
          connection = await this.connect()
          continue
        }
        // The first error wins.
        if (connection.hasBegun) await this.#sent(blocks).catch((late: unknown) => this.owner.report(late))
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
    this.events.log(text, parameters)
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
    if (this.isAborted) throw this.abortedError("The driver's client")
    return (await this.#ready(blocks)).client
  }

  async releaseSavepoint(block: Block): Promise<void> {
    // A read that fails before the begin fails its block, too, although the server does not know of it.
    if (this.isAborted && (block.isSent || !block.wasAborted)) throw this.abortedError("The transaction() block")
    if (block.isSent) await this.#control(`RELEASE SAVEPOINT ${block.name}`)
  }

  async rollbackToSavepoint(block: Block): Promise<void> {
    if (this.#isLost) return
    // Without the savepoint on the server, what failed in the block had not begun.
    if (block.isSent) await this.#control(`ROLLBACK TO SAVEPOINT ${block.name}`)
    if (!block.wasAborted) this.#firstFailure = undefined
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
      if (!this.#isLost) this.record.failed(this, error)
      await this.#undo()
      throw error
    }
    const connection = this.#connection
    if (connection === undefined) return
    if (this.#cancelling) await this.#cancelling
    if (this.tryCommit()) return
    if (this.events.isHeard) await this.#beforeCommit()
    let isCommitted: boolean
    try {
      if (this.#cancelling) await this.#cancelling
      this.events.log("COMMIT")
      isCommitted = await connection.commit()
    } catch (error) {
      this.record.failed(this, error)
      this.events.logError(error, "COMMIT")
      const wasLost = !connection.isAlive
      this.#release(wasLost || !(await hasRolledBack(connection, this.owner)))
      this.#hasEnded = "Rollback"
      throw wasLost ? outcomeUnknown(error) : new QueryFailedError("COMMIT", [], error as Error)
    }
    this.#release(false)
    if (!isCommitted) {
      this.#hasEnded = "Rollback"
      const error = this.abortedError("commit()")
      this.record.failed(this, error)
      throw error
    }
    this.#hasEnded = "Commit"
    this.record.committed(this)
  }

  /** As `commit()`, for a transaction that needs no wait for it. @returns false for any other: `commit()` ends it */
  tryCommit(): boolean {
    const connection = this.#connection
    if (connection === undefined || this.#firstFailure) return false
    if (this.#unsentBegin.length === 0) {
      if (this.events.isHeard || connection.commitAtOnce?.() !== true) return false
      this.events.log("COMMIT")
    }
    this.#release(false)
    this.record.committed(this)
    return true
  }

  /** Tells TypeORM's subscribers how it ended; for after the session has let go of it, so that they can use the session. */
  get endHook(): Hook | undefined {
    if (this.#hasEnded === undefined || !this.events.isHeard) return undefined
    return () => this.events.broadcast(`AfterTransaction${this.#hasEnded}`)
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
    // Else it might hit a statement of whoever has the connection next.
    await this.#cancelling
    if (connection === undefined || this.#unsentBegin.length > 0) return this.#release(false)
    await this.events.broadcast("BeforeTransactionRollback").catch((error: unknown) => this.owner.report(error))
    this.events.log("ROLLBACK")
    this.#release(!connection.isAlive || !(await hasRolledBack(connection, this.owner)))
    this.#hasEnded = "Rollback"
  }

  /** Asks the database to stop the running statement. Never rejects. */
  async cancel(): Promise<void> {
    const connection = this.#connection
    this.#cancelling ??= connection?.cancel().catch((error: unknown) => {
      this.owner.report(error)
      // The server is out of reach: without this the session would wait for a statement that may never end.
      connection.release(true)
    })
    await this.#cancelling
  }

  abortedError(what: string): TransactionAbortedError {
    return abortedError(what, this.#isLost, this.#firstFailure?.error)
  }

  /** Sends the begin and the savepoints with a statement that does nothing; a stale connection is replaced on the way. */
  async #ready(blocks: readonly Block[]): Promise<Connection> {
    // What comes next is not one statement of which it is known what it does, and must not be without its begin.
    this.#mayDefer = false
    await this.connect()
    if (withSavepoints(this.#unsentBegin, blocks).length > 0) await this.execute("SELECT 1", [], blocks)
    return this.connect()
  }

  /** Once for each transaction, so that every end has its begin; the reads that come before the begin count as one. */
  #recordBegun(): void {
    if (!this.#isBegunRecorded) this.record.begun(this)
    this.#isBegunRecorded = true
  }

  #isDeferrable(text: string): boolean {
    if (this.#unsentBegin.length === 0 || !this.#mayDefer) return false
    if (this.source.engine?.isDeferrableRead(this.options, text) !== true) return false
    this.#recordBegun()
    return true
  }

  async #sent(blocks: readonly Block[]): Promise<void> {
    for (const block of blocks) block.isSent = true
    if (this.#unsentBegin.length === 0) return
    this.#unsentBegin = NO_PREFIX
    this.#recordBegun()
    if (this.events.isHeard) await this.events.broadcast("AfterTransactionStart")
  }

  /** Once; what a subscriber sends then begins the transaction. */
  async #announceBegin(): Promise<void> {
    this.#isAnnounced = true
    if (this.events.isHeard) await this.events.broadcast("BeforeTransactionStart")
  }

  /** A subscriber that fails here forbids the commit. */
  async #beforeCommit(): Promise<void> {
    try {
      await this.events.broadcast("BeforeTransactionCommit")
      if (this.isAborted) throw this.abortedError("commit()")
    } catch (error) {
      this.record.failed(this, error)
      await this.#undo()
      throw error
    }
  }

  /** Marks the transaction as aborted, and ends its connection where that is lost. */
  #fail(text: string, parameters: readonly unknown[] | undefined, error: unknown): Error {
    const failure = statementError(text, parameters, error)
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
      await this.events.execute(connection, text, undefined, NO_PREFIX)
    } catch (error) {
      this.events.logError(error, text)
      throw this.#fail(text, undefined, error)
    }
  }

  #release(isBroken: boolean): void {
    const connection = this.#connection
    this.#connection = undefined
    connection?.release(isBroken)
  }
}
