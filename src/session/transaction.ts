import type { QueryResult } from "typeorm"
import type { AcquireRequest, BeginOptions, Connection, Engine, Outcome } from "../engine/connection"
import { isServerError } from "../engine/failure-kind"
import { isRollbackTo } from "../engine/rollback-to"
import { isQuery } from "../engine/statement"
import type { TransactionAbortedError } from "../errors"
import { type Block, withSavepoints } from "./block"
import type { EngineSource } from "./engine-source"
import type { ErrorSink, Hook } from "./hooks"
import type { QueryEvents } from "./query-events"
import { sendCommit, sendRollback } from "./send-end"
import { nextTransactionId, type RecordedTransaction, type SessionRecord } from "./session-record"
import { abortedError, outcomeUnknown, statementError } from "./transaction-errors"

/** The session that it belongs to. */
export interface TransactionOwner extends ErrorSink {
  /** Called where it got no connection and is over before it began. */
  forgetTransaction(transaction: Transaction): void
  /** Called where the server has ended it without being asked by the session: the next statement begins another one. */
  transactionEnded(transaction: Transaction): void
}

const NO_PREFIX: readonly string[] = []

/**
 * One transaction, from its begin to its end, on one connection. The begin is sent with the first statement.
 * Calls do not overlap: the session's queue sends one after another.
 *
 * | state     | means                                                            | next                                            |
 * |-----------|------------------------------------------------------------------|-------------------------------------------------|
 * | unbegun   | no begin is sent; there may be a connection                      | begun; ended                                    |
 * | begun     | the server has answered the begin                                | failed: a statement failed; ended               |
 * | failed    | refuses all but a rollback, of itself or to a savepoint          | begun: rolled back to a savepoint; ended        |
 * | ended     | `outcome` says how; the connection is given back, or was ended   | -                                               |
 */
export class Transaction implements RecordedTransaction {
  readonly id = nextTransactionId()
  readonly startedAt = performance.now()
  connectedAt = this.startedAt
  /** whether any statement changed something, as far as its text tells */
  wrote = false
  /** whether any statement may have changed something: not known to be a plain read */
  mayHaveWritten = false
  /** set once it has ended, whoever ended it */
  outcome: Outcome | undefined
  #connection: Connection | undefined
  #unsentBegin = NO_PREFIX
  #mayDefer: boolean
  #failure: { readonly error: unknown } | undefined
  #isLost = false
  #isEnding = false
  #isIdentified = false
  #isBegunRecorded = false
  #isAnnounced = false
  #isClientGiven = false

  constructor(
    private readonly source: EngineSource,
    private readonly events: QueryEvents,
    private readonly options: BeginOptions,
    private request: AcquireRequest,
    private readonly record: SessionRecord,
    private readonly owner: TransactionOwner,
  ) {
    this.#mayDefer = options.deferBegin
  }

  get isOpen(): boolean {
    return this.#connection !== undefined || this.#failure !== undefined
  }

  get isAborted(): boolean {
    return this.#failure !== undefined || this.#connection?.status === "failed"
  }

  /** Whether its COMMIT or ROLLBACK is under way. */
  get isEnding(): boolean {
    return this.#isEnding
  }

  /** Whether the server knows of it. */
  get #isBegun(): boolean {
    return this.#connection !== undefined && this.#unsentBegin.length === 0
  }

  /**
   * Takes the connection, and starts the `DataSource` where nobody has; no begin is sent yet.
   * @throws what `EngineSource.start`, `Engine.validate` and `Engine.acquire` throw; the transaction has not begun
   */
  async connect(): Promise<Connection> {
    if (this.#connection) return this.#connection
    try {
      const engine = this.source.engine ?? (await this.#startEngine())
      return this.#take(engine, await engine.acquire(this.request))
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
    const connection = engine?.acquireAtOnce?.(this.request)
    return engine && connection && this.#take(engine, connection)
  }

  #take(engine: Engine, connection: Connection): Connection {
    this.#connection = connection
    this.connectedAt = performance.now()
    this.#unsentBegin = engine.begin(this.options)
    return connection
  }

  /** Gives up waiting for a connection; nothing to do where it has one. */
  cancelConnect(reason: Error): void {
    this.request.wait?.cancel(reason)
  }

  /**
   * Runs a statement, with the begin and the savepoints of `blocks` in front of it where the server does not know them yet.
   * @param isBuilt whether TypeORM's query builder made the text, so that its begin may be put off
   * @throws {TransactionAbortedError} where an earlier statement failed; nothing is sent
   * @throws {QueryFailedError} the transaction is then aborted up to the innermost savepoint
   */
  async execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    blocks: readonly Block[],
    isBuilt: boolean,
  ): Promise<QueryResult> {
    this.#assertGoesOn(text)
    // First, and the end of it last: what a subscriber sends may begin the transaction, which must not be begun twice.
    if (this.events.isHeard) await this.#tell("BeforeQuery", text, text, parameters)
    let connection = this.#connection ?? this.#connectAtOnce() ?? (await this.connect())
    for (;;) {
      const isDeferred = isBuilt && this.#isDeferrable(connection, text, parameters)
      let identify = NO_PREFIX
      if (!isDeferred) {
        this.#noteWrite(connection, text, parameters)
        if (this.options.resolveCommits && this.mayHaveWritten && !this.#isIdentified) identify = this.#identification()
        if (!this.#isAnnounced) {
          await this.#announceBegin(text)
          connection = this.#connection ?? connection
        }
        if (connection.isDoubtful && !this.#isBegun) connection = await this.#open(blocks)
      }
      const begin = isDeferred ? NO_PREFIX : withSavepoints(this.#unsentBegin, blocks)
      const prefix = identify.length === 0 ? begin : [...begin, ...identify]
      const startedAt = Date.now()
      let result: QueryResult
      try {
        result = await this.events.execute(connection, text, parameters, prefix)
        if (prefix.length > 0) await this.#sent(connection, blocks)
        if (this.#failure && connection.status === "open") this.#failure = undefined
        this.#noticeEnd(connection)
      } catch (error) {
        this.events.logError(error, text, parameters)
        const other = await this.#replace(connection)
        if (other) {
          connection = other
          continue
        }
        // The first error wins.
        if (prefix.length > 0) {
          await this.#sent(connection, blocks).catch((late: unknown) => this.owner.report(late))
        }
        const failure = this.#fail(text, parameters, error)
        if (this.events.isHeard) {
          await this.events.broadcast("AfterQuery", text, parameters, false, undefined, undefined, error)
        }
        throw failure
      }
      if (this.events.isHeard) {
        await this.events.broadcast("AfterQuery", text, parameters, true, Date.now() - startedAt, result.raw)
      }
      return result
    }
  }

  #assertGoesOn(text: string): void {
    if (this.#failure && (this.#connection === undefined || !isRollbackTo(text)))
      throw this.abortedError("This statement")
  }

  /** Tells subscribers of what comes before `text`; what they sent may have failed. */
  async #tell(event: string, text: string, ...details: unknown[]): Promise<void> {
    await this.events.broadcast(event, ...details)
    this.#assertGoesOn(text)
    if (this.outcome !== undefined) throw this.abortedError("This statement")
  }

  async stream(
    text: string,
    parameters: readonly unknown[] | undefined,
    blocks: readonly Block[],
  ): Promise<NodeJS.ReadableStream> {
    if (this.isAborted) throw this.abortedError("This stream")
    const connection = await this.#ready(blocks)
    this.mayHaveWritten ||= !this.options.readOnly && !connection.isPlainRead(text, parameters)
    // Whoever leaves a stream of rows leaves what it would still have done.
    this.wrote ||= !this.options.readOnly && !isQuery(text)
    this.events.log(text, parameters)
    try {
      const stream = await connection.stream(text, parameters)
      stream.on("error", (error) => {
        // Whoever leaves a stream early destroys it, with an error or without: the transaction goes on.
        if (isServerError(error) || !connection.isAlive) this.#fail(text, parameters, error)
      })
      return stream
    } catch (error) {
      throw this.#fail(text, parameters, error)
    }
  }

  /** The driver's client, once the begin and the savepoints are known to the server. What is done with it nobody sees. */
  async client(blocks: readonly Block[]): Promise<unknown> {
    if (this.isAborted) throw this.abortedError("The driver's client")
    this.wrote ||= !this.options.readOnly
    this.mayHaveWritten = this.wrote
    this.#isClientGiven = true
    return (await this.#ready(blocks)).client
  }

  /** Whether code that was given the driver's client may have ended it unseen. */
  get isDoubted(): boolean {
    return this.#isClientGiven && this.#isBegun
  }

  /** Asks the server whether it is still open; where it is not, the owner is told. */
  async notice(): Promise<void> {
    const connection = this.#connection
    await connection?.askStatus()
    if (connection?.status !== "none") return
    this.outcome = "unknown"
    this.record.failed(this, outcomeUnknown(undefined))
    this.#release()
    this.owner.transactionEnded(this)
  }

  async releaseSavepoint(block: Block): Promise<void> {
    // A read that fails before the begin fails its block, too, although the server does not know of it.
    if (this.isAborted && (block.isSent || !block.wasAborted)) throw this.abortedError("The transaction() block")
    if (block.isSent) await this.#control(`RELEASE SAVEPOINT ${block.name}`)
  }

  async rollbackToSavepoint(block: Block): Promise<void> {
    if (this.#connection === undefined) return
    // Without the savepoint on the server, what failed in the block had not begun.
    if (block.isSent) await this.#control(`ROLLBACK TO SAVEPOINT ${block.name}`)
    if (!block.wasAborted) this.#failure = undefined
  }

  /**
   * Commits and gives the connection back; `outcome` then says what became of it, also where this throws.
   * @throws {TransactionAbortedError} where a statement had failed; rolled back
   * @throws {QueryFailedError} where the database refuses the COMMIT, or the connection was lost before it was sent; rolled back
   * @throws {CommitOutcomeUnknownError} where COMMIT was sent and not answered; the connection is ended
   */
  async commit(): Promise<void> {
    if (this.isAborted) {
      const error = this.outcome === "unknown" ? outcomeUnknown(this.#failure?.error) : this.abortedError("commit()")
      if (!this.#isLost) this.record.failed(this, error)
      await this.#undo()
      throw error
    }
    const connection = this.#connection
    if (connection === undefined) {
      this.outcome = "committed"
      return
    }
    if (this.tryCommit()) return
    if (this.events.isHeard) await this.#beforeCommit()
    this.events.log("COMMIT")
    this.#isEnding = true
    const { outcome, error } = await sendCommit(connection, this.source.engine, this.request, this.events, this.owner)
    this.#release()
    this.outcome = outcome
    if (outcome === "committed") {
      this.record.committed(this)
      return
    }
    const failure = this.#commitFailure(outcome, error)
    this.record.failed(this, failure)
    if (error !== undefined) this.events.logError(error, "COMMIT")
    throw failure
  }

  #commitFailure(outcome: Outcome, error: unknown): unknown {
    if (outcome === "unknown") return outcomeUnknown(error)
    return error === undefined ? this.abortedError("commit()") : statementError("COMMIT", [], error)
  }

  /** As `commit()`, for a transaction that needs no wait for it. @returns false for any other: `commit()` ends it */
  tryCommit(): boolean {
    const connection = this.#connection
    if (connection === undefined || this.isAborted) return false
    if (this.#isBegun) {
      if (this.events.isHeard || connection.commitAtOnce?.() !== true) return false
      this.events.log("COMMIT")
    }
    this.#release()
    this.outcome = "committed"
    this.record.committed(this)
    return true
  }

  /** Tells TypeORM's subscribers how it ended; for after the session has let go of it, so that they can use the session. */
  get endHook(): Hook | undefined {
    if (!this.#isAnnounced || !this.events.isHeard) return undefined
    if (this.outcome === "committed") return () => this.events.broadcastOutside("AfterTransactionCommit")
    return this.outcome === "rolled back" ? () => this.events.broadcastOutside("AfterTransactionRollback") : undefined
  }

  /**
   * Rolls back and gives the connection back; one on which ROLLBACK fails is ended instead. Never rejects: the work is undone
   * either way, and what failed is reported.
   */
  async rollback(): Promise<void> {
    if (!this.#isLost && this.outcome === undefined) this.record.rolledBack(this)
    await this.#undo()
  }

  async #undo(): Promise<void> {
    const connection = this.#connection
    if (connection?.isAlive && (this.#isBegun || connection.status !== "none")) {
      await this.events.broadcast("BeforeTransactionRollback").catch((error: unknown) => this.owner.report(error))
      this.#isEnding = true
      // Behind a statement that still runs, ROLLBACK would wait for it; `release()` ends such a connection.
      if (connection.isSettled) await sendRollback(connection, this.events, this.owner)
    }
    this.#release()
    this.outcome ??= "rolled back"
  }

  /** Asks the database to stop the running statement. Never rejects; an end that is under way is left alone. */
  async cancel(): Promise<void> {
    if (!this.#isEnding) await this.#connection?.cancel()
  }

  /** Ends the connection, so that what waits for its answer goes on: a COMMIT under way is then one of unknown outcome. */
  cut(reason: Error): void {
    this.#connection?.end(reason)
  }

  abortedError(what: string): TransactionAbortedError {
    return abortedError(what, this.#isLost, this.outcome, this.#failure?.error)
  }

  /** Sends the begin and the savepoints alone; a stale connection is replaced on the way. */
  async #ready(blocks: readonly Block[]): Promise<Connection> {
    // What comes next is not one statement of which it is known what it does, and must not be without its begin.
    this.#mayDefer = false
    await this.connect()
    if (!this.#isAnnounced) await this.#announceBegin("")
    return this.#open(blocks)
  }

  async #open(blocks: readonly Block[]): Promise<Connection> {
    let connection = await this.connect()
    for (;;) {
      const begin = withSavepoints(this.#unsentBegin, blocks)
      const identify =
        this.options.resolveCommits && !this.#isIdentified && this.mayHaveWritten ? this.#identification() : NO_PREFIX
      const prefix = [...begin, ...identify]
      const [first] = prefix
      if (first === undefined) return connection
      for (const statement of prefix) this.events.log(statement)
      try {
        await connection.control(prefix)
        await this.#sent(connection, blocks)
        return connection
      } catch (error) {
        this.events.logError(error, first)
        const other = await this.#replace(connection)
        if (other === undefined) throw this.#fail(first, undefined, error)
        connection = other
      }
    }
  }

  /**
   * Takes another connection for one that had died unnoticed, where what was sent can be sent again (contract 3.3).
   * @returns undefined where it cannot, or the time to wait for a connection is over
   */
  async #replace(connection: Connection): Promise<Connection | undefined> {
    if (this.#isBegun || !connection.mayResend) return undefined
    const timeoutMs = Math.round(this.request.timeoutMs - (performance.now() - this.startedAt))
    if (timeoutMs <= 0) return undefined
    this.#release()
    this.request = { ...this.request, timeoutMs, wait: undefined }
    this.#isIdentified = false
    return this.connect()
  }

  #noteWrite(connection: Connection, text: string, parameters: readonly unknown[] | undefined): void {
    if (this.wrote || this.options.readOnly) return
    if (!this.mayHaveWritten && connection.isPlainRead(text, parameters)) return
    this.mayHaveWritten = true
    this.wrote = !connection.looksLikeRead(text)
  }

  #identification(): readonly string[] {
    const { identification } = this.source.engine ?? {}
    this.#isIdentified = true
    return identification === undefined ? NO_PREFIX : [identification]
  }

  /** Once for each transaction, so that every end has its begin; the reads that come before the begin count as one. */
  #recordBegun(): void {
    if (!this.#isBegunRecorded) this.record.begun(this)
    this.#isBegunRecorded = true
  }

  #isDeferrable(connection: Connection, text: string, parameters: readonly unknown[] | undefined): boolean {
    if (this.#isBegun || !this.#mayDefer || connection.isDoubtful) return false
    if (this.source.engine?.isDeferrableRead(this.options, text, parameters) !== true) return false
    this.#recordBegun()
    return true
  }

  async #sent(connection: Connection, blocks: readonly Block[]): Promise<void> {
    if (connection.isPrefixDone) for (const block of blocks) block.isSent = true
    if (this.#unsentBegin.length === 0 || !connection.hasBegun) return
    this.#unsentBegin = NO_PREFIX
    this.#recordBegun()
    if (this.events.isHeard) await this.events.broadcast("AfterTransactionStart")
  }

  /** Once; what a subscriber sends then begins the transaction. */
  async #announceBegin(text: string): Promise<void> {
    this.#isAnnounced = true
    if (this.events.isHeard) await this.#tell("BeforeTransactionStart", text)
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

  /** Raw COMMIT or ROLLBACK, DDL on MySQL, a deadlock: the server has ended it, and the connection is free. */
  #noticeEnd(connection: Connection): void {
    const end = connection.takeEnd()
    if (end === undefined) return
    this.outcome = end
    if (end === "committed") this.record.committed(this)
    else if (end === "rolled back") this.record.rolledBack(this)
    else this.record.failed(this, outcomeUnknown(undefined))
    this.#release()
    if (this.#failure === undefined) this.owner.transactionEnded(this)
  }

  /** Marks the transaction as aborted, and lets go of a connection that is lost, or on which it has ended. */
  #fail(text: string, parameters: readonly unknown[] | undefined, error: unknown): Error {
    const isLost = this.#connection?.isAlive === false
    // The server may have come to the end of it before its answer was lost.
    const isUnknown = isLost && this.#connection?.hasBegun === true && this.#connection.mayCommit(text)
    const failure = isUnknown ? outcomeUnknown(error) : statementError(text, parameters, error)
    this.#failure ??= { error: failure }
    const connection = this.#connection
    if (connection === undefined) return failure
    if (connection.isAlive) this.#noticeEnd(connection)
    else {
      this.#isLost = true
      this.outcome = isUnknown ? "unknown" : "rolled back"
      this.record.failed(this, error)
      this.#release()
    }
    return failure
  }

  async #control(text: string): Promise<void> {
    const connection = await this.connect()
    this.events.log(text)
    try {
      await connection.control([text])
    } catch (error) {
      this.events.logError(error, text)
      throw this.#fail(text, undefined, error)
    }
  }

  #release(): void {
    const connection = this.#connection
    this.#connection = undefined
    connection?.release()
  }
}
