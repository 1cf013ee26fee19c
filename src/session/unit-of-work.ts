import { AsyncResource } from "node:async_hooks"
import type { QueryRunner } from "typeorm"
import type { ConnectionOwner, IsolationLevel } from "../engine/connection"
import type { Linked } from "../engine/linked-list"
import { AcquireTimeoutError, CommitOutcomeUnknownError, type SessionClosedError } from "../errors"
import { Block, levels } from "./block"
import { type BlockHost, Blocks } from "./blocks"
import { closedError } from "./closed-error"
import { commitOpen, type Ending, endHooks, finishEnding, rollbackOpen } from "./ending"
import type { EngineSource } from "./engine-source"
import type { Watched } from "./held-too-long"
import { type CompletionHook, type Hook, type Occasion, runHooks } from "./hooks"
import { NextBegin } from "./next-begin"
import { nextTick } from "./next-tick"
import { OpenStreams } from "./open-streams"
import type { ResolvedSessionOptions } from "./options"
import { QueryEvents } from "./query-events"
import type { SessionContext } from "./session-context"
import { SessionRecord } from "./session-record"
import { type Refuser, StatementQueue } from "./statement-queue"
import type { Tally } from "./tally"
import { Transaction, type TransactionOwner } from "./transaction"
import { undoneError } from "./transaction-errors"

const COMMIT = { phrase: "commit()" }
const ROLLBACK = { phrase: "rollback()" }
const STREAM = { phrase: "a result stream" }
const CLIENT = { phrase: "queryRunner.connect()" }
/** A COMMIT takes some ms: longer than this, its answer will not come. */
const COMMIT_GRACE_MS = 1_000

/** Whoever keeps account of the sessions that have not ended. */
export interface UnitKeeper {
  forget(unit: UnitOfWork): void
}

/**
 * The life of one session.
 *
 * | state  | means                                         | next                                                      |
 * |--------|-----------------------------------------------|-----------------------------------------------------------|
 * | idle   | no transaction, no connection                 | active: first statement; closed                           |
 * | active | a transaction holds, or waits for, a connection | idle: commit(), rollback(); closed, after a rollback     |
 * | closed | refuses every statement                       | -                                                         |
 *
 * Borrowed from SQLAlchemy 2.1 `Session`: autobegin, and a session that goes on after `commit()`. Ours expires no entities.
 */
export class UnitOfWork implements ConnectionOwner, BlockHost, Linked, Refuser, TransactionOwner, Watched {
  readonly root = new Block(undefined, "")
  readonly blocks: Blocks
  #hasCommitted = false
  /** of a transaction that the server has ended by itself; run once the step is over in which that was noticed */
  #dueHooks: readonly Hook[] | undefined
  #hasWrittenBefore = false
  /** of the session itself; set by whoever makes both */
  runner!: QueryRunner
  readonly queue: StatementQueue
  previous: this | undefined = undefined
  following: this | undefined = undefined
  isReported = false
  /** undefined where there was none */
  streams: OpenStreams | undefined
  transaction: Transaction | undefined
  /** whether it was closed from outside over work that is now lost */
  isUndone = false
  #closing: Promise<void> | undefined
  /** whether its last transaction has ended; what is left are hooks */
  #hasEnded = false
  #isCancelled = false
  readonly #record: SessionRecord
  readonly #events: QueryEvents
  readonly #begin: NextBegin

  constructor(
    readonly source: EngineSource,
    readonly options: ResolvedSessionOptions,
    private readonly context: SessionContext,
    tally: Tally,
    private readonly keeper: UnitKeeper | undefined,
  ) {
    this.#events = new QueryEvents(source.dataSource, this)
    this.#record = new SessionRecord(context, tally)
    this.queue = new StatementQueue(this.root, this)
    this.blocks = new Blocks(this.queue, this)
    this.#begin = new NextBegin(source.dataSource, options, context)
  }

  /** Whether anything of it is committed, or may be. */
  get hasCommitted(): boolean {
    return this.#hasCommitted
  }

  set hasCommitted(value: boolean) {
    this.#hasCommitted = value
    if (value && this.hasEverWritten) this.context.workCommitted?.()
  }

  get isClosed(): boolean {
    return this.#closing !== undefined
  }

  /** Whether nothing can be done with it any more: it is closed, or closes when its last hooks have run. */
  get hasEnded(): boolean {
    return this.#hasEnded || this.isClosed
  }

  /** Whether a transaction is open, or waits for its connection. */
  get isActive(): boolean {
    return this.transaction !== undefined
  }

  get isInTransaction(): boolean {
    return this.transaction?.isOpen === true
  }

  /** Whether the open transaction may have changed something; a `SERIALIZABLE` one can fail at its commit all the same. */
  get hasWritten(): boolean {
    const transaction = this.transaction
    return transaction !== undefined && (transaction.mayHaveWritten || transaction.isAborted || this.#isSerializable)
  }

  /** Whether any of its transactions may have changed something. */
  get hasEverWritten(): boolean {
    return this.#hasWrittenBefore || this.transaction?.wrote === true
  }

  get #isSerializable(): boolean {
    return this.#begin.isSerializable ?? this.source.engine?.isSerializable === true
  }

  get turnTimeoutMs(): number {
    return this.options.acquireTimeoutMs
  }

  /** Whether nothing runs or waits: all that was issued has been answered. */
  get isQuiet(): boolean {
    return this.queue.isIdle && this.queue.top === this.root
  }

  /** ms since the open transaction began; 0 where none is open */
  get activeMs(): number {
    return this.transaction ? performance.now() - this.transaction.startedAt : 0
  }

  get warnAfterMs(): number {
    return this.context.warnAfterMs ?? Number.POSITIVE_INFINITY
  }

  label(): string {
    return this.context.label()
  }

  report(error: unknown): void {
    this.context.report(error)
  }

  describe(): string {
    return this.isActive ? `${this.context.label()} (for ${Math.round(this.activeMs)} ms)` : this.context.label()
  }

  /** @param isStructured whether the whole `QueryResult` is wanted, as TypeORM's query builder does, and not the driver's rows */
  async query(
    block: Block,
    text: string,
    parameters: readonly unknown[] | undefined,
    isStructured: boolean,
  ): Promise<unknown> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) throw innermost
    const send = () => this.#opened().execute(text, parameters, levels(innermost), isStructured)
    const execute = () => (this.transaction?.isDoubted ? this.transaction.notice().then(send) : send())
    try {
      if (!this.queue.tryEnter(innermost, text)) {
        const late = await this.queue.run(innermost, text, execute)
        return isStructured ? late : late.raw
      }
      try {
        const result = await execute()
        return isStructured ? result : result.raw
      } finally {
        this.queue.leave()
      }
    } finally {
      if (this.#dueHooks) await this.#runDueHooks()
    }
  }

  client(block: Block): Promise<unknown> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) return Promise.reject(innermost)
    return this.queue.run(innermost, CLIENT, async () => this.#opened().client(levels(innermost)))
  }

  /** The queue goes on when the stream has ended: until then its cursor occupies the connection. */
  stream(block: Block, text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) return Promise.reject(innermost)
    const inContext = AsyncResource.bind((fn: () => boolean) => fn())
    return new Promise((resolve, reject) => {
      const step = async () => {
        const stream = await this.#opened().stream(text, parameters, levels(innermost))
        // Its events come from the driver's socket, in the context of the request that had it opened.
        const emit = stream.emit.bind(stream)
        stream.emit = (...event) => inContext(() => emit(...event))
        this.streams ??= new OpenStreams()
        const ended = this.streams.follow(stream, innermost)
        resolve(stream)
        await ended
      }
      this.queue.run(innermost, STREAM, step).catch(reject)
    })
  }

  /**
   * State: active -> idle. Does nothing where no transaction is open.
   * @throws {SessionStateError} inside a `transaction()` block; state unchanged
   */
  async commit(block: Block): Promise<void> {
    this.blocks.assertOutside(block, "commit()")
    await finishEnding(await this.queue.run(this.root, COMMIT, () => commitOpen(this)), this)
    if (this.#dueHooks) await this.#runDueHooks()
  }

  /** State: active -> idle. Does nothing where no transaction is open, or the session is closed. */
  async rollback(block: Block): Promise<void> {
    if (this.isClosed) return
    this.blocks.assertOutside(block, "rollback()")
    const hooks = await this.queue.run(this.root, ROLLBACK, () => rollbackOpen(this))
    await runHooks(hooks, this)
  }

  addHook(block: Block, occasion: Occasion, hook: CompletionHook): void {
    if (this.hasEnded) throw this.#closedError("A hook")
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) throw innermost
    innermost.hooks.add(occasion, hook)
  }

  /**
   * Ends the session's work well: waits for what was issued before, commits, refuses what comes later, and closes.
   * @throws what `commit()` throws; closed all the same
   */
  async complete(): Promise<void> {
    if (this.#closing) {
      await this.#closing
      if (this.isUndone) throw undoneError()
      return
    }
    if (this.tryComplete()) return
    try {
      if (!this.isQuiet) await this.#drain()
      const ending = await this.#commitLast()
      this.#hasEnded = true
      await finishEnding(ending, this)
      if (!this.root.hooks.isEmpty) await runHooks(this.root.hooks.take("committed"), this)
    } finally {
      if (this.#dueHooks) await this.#runDueHooks()
      if (!this.tryComplete()) await this.close()
    }
  }

  /**
   * As `complete()`, at once, where nothing runs or waits and the commit needs no answer of a server: of an unused session, of
   * one whose reads needed no begin, on SQLite.
   * @returns false where nothing was done and `complete()` is needed
   */
  tryComplete(): boolean {
    if (this.isClosed || !this.isQuiet || !this.root.hooks.isEmpty) return false
    if (this.transaction) {
      if (!this.transaction.tryCommit()) return false
      this.hasCommitted = true
      this.#endTransaction()
    }
    this.queue.close()
    this.#closing = Promise.resolve()
    this.#closed()
    return true
  }

  /** Waits for what was issued before and commits; the session goes on. @throws what `commit()` throws */
  async commitIssued(): Promise<void> {
    await this.#drain()
    await this.commit(this.root)
  }

  /** State: idle or active -> closed. Rolls back what is open and gives the connection back. Never rejects; a second call joins. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /**
   * Closes, and asks the database to stop the statement that runs. A COMMIT that is under way is waited for, and no longer than
   * `COMMIT_GRACE_MS`: it is then of unknown outcome.
   */
  async cancel(): Promise<void> {
    this.#isCancelled = true
    const transaction = this.transaction
    if (transaction?.isEnding) {
      const timer = setTimeout(() => {
        transaction.cut(
          new CommitOutcomeUnknownError("The session was closed from outside while COMMIT was under way."),
        )
      }, COMMIT_GRACE_MS)
      await this.close().finally(() => clearTimeout(timer))
      return
    }
    this.isUndone ||= this.hasWritten
    const closed = this.close()
    if (!this.queue.isIdle) await transaction?.cancel()
    await closed
  }

  async #close(): Promise<void> {
    this.queue.close()
    this.transaction?.cancelConnect(this.#closedError("Waiting for a connection"))
    this.streams?.destroy()
    await this.queue.whenNotRunning()
    const inner = this.blocks.takeOpenHooks((block) => (block === this.root ? [] : block.hooks.take("rolled back")))
    const hooks = await rollbackOpen(this)
    this.#closed()
    // The statement that noticed the end may not have run them yet, and is not to run them again.
    const due = this.#dueHooks ?? []
    this.#dueHooks = undefined
    await runHooks([...due, ...hooks, ...inner, ...this.root.hooks.take("rolled back")], this)
  }

  #closed(): void {
    this.blocks.close()
    this.keeper?.forget(this)
    this.#record.closed()
  }

  /**
   * Work that the action issued and did not wait for is part of it: it runs before the commit, the later steps of a `save()`
   * included. Without any, nothing is waited for.
   */
  async #drain(): Promise<void> {
    while (!this.isQuiet) {
      if (this.queue.isIdle) this.blocks.refuseByHand()
      await this.queue.run(this.root, COMMIT, async () => undefined)
      // What still waits here may wait for a timer or an answer: without a turn of the event loop neither would come.
      await (this.queue.isIdle ? nextTick() : new Promise(setImmediate))
    }
  }

  /** No connection was to be had: nothing has begun, and the next statement may try again. */
  forgetTransaction(transaction: Transaction): void {
    if (this.transaction === transaction) this.#endTransaction()
  }

  /** The next statement begins another one; savepoints that it needs are sent anew. */
  transactionEnded(transaction: Transaction): void {
    if (this.transaction !== transaction) return
    const outcome = transaction.outcome ?? "unknown"
    if (outcome !== "rolled back") this.hasCommitted = true
    const inner = this.blocks.takeOpenHooks((block) => (block === this.root ? [] : block.hooks.take(outcome)))
    this.#dueHooks = [...(this.#dueHooks ?? []), ...endHooks(this.root, transaction), ...inner]
    this.blocks.forgetSent()
    this.#endTransaction()
  }

  async #runDueHooks(): Promise<void> {
    const hooks = this.#dueHooks ?? []
    this.#dueHooks = undefined
    await runHooks(hooks, this)
  }

  #opened(): Transaction {
    if (this.transaction) return this.transaction
    const [options, request] = [this.#begin.options(this.blocks.isolation), this.#begin.request(this)]
    this.source.engine?.validate(options)
    this.transaction = new Transaction(this.source, this.#events, options, request, this.#record, this)
    this.isReported = false
    return this.transaction
  }

  #endTransaction(): void {
    this.#hasWrittenBefore ||= this.transaction?.wrote === true
    this.transaction = undefined
  }

  /** Seals the session: what a forgotten promise sends during the COMMIT must not begin a transaction of its own. */
  async #commitLast(): Promise<Ending> {
    const step = () => {
      this.queue.close()
      return commitOpen(this)
    }
    if (!this.queue.tryEnter(this.root, COMMIT)) return this.queue.run(this.root, COMMIT, step)
    try {
      return await step()
    } finally {
      this.queue.leave()
    }
  }

  assertIsolation(isolation: IsolationLevel): void {
    if (this.isActive) this.#begin.assertIsolation(isolation)
  }

  refuseOverdue(waiting: string, holding: string): Error {
    return new AcquireTimeoutError(
      `${this.label()}: ${waiting} got no turn in its session within ${this.turnTimeoutMs} ms, because ${holding}. ` +
        "Do not await in a transaction() block what was issued outside of it, use the block's own session for what belongs to " +
        "it, end result streams, or raise acquireTimeoutMs.",
    )
  }

  refuseWaiting(): Error {
    return this.#closedError("A statement")
  }

  /** Whoever issues a statement after the end may have forgotten to await it, so that nobody sees the rejection. */
  refuseLate(): Error {
    const error = this.#closedError("A statement")
    this.#record.refused()
    if (!this.#isCancelled) this.context.reportLate?.(error)
    return error
  }

  #closedError(what: string): SessionClosedError {
    return closedError(what, this.context.label())
  }
}
