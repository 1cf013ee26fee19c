import type { QueryRunner } from "typeorm"
import type { ConnectionOwner, IsolationLevel } from "../engine/connection"
import type { Linked } from "../engine/linked-list"
import type { SessionClosedError } from "../errors"
import { Block, levels } from "./block"
import { type BlockHost, Blocks } from "./blocks"
import { closedError } from "./closed-error"
import { commitOpen, type Ending, finishEnding, rollbackOpen } from "./ending"
import type { EngineSource } from "./engine-source"
import type { Watched } from "./held-too-long"
import { type Hook, runHooks } from "./hooks"
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
  /** whether it has committed anything yet */
  hasCommitted = false
  /** of the session itself; set by whoever makes both */
  runner!: QueryRunner
  readonly queue = new StatementQueue(this.root)
  previous: this | undefined = undefined
  following: this | undefined = undefined
  isReported = false
  /** undefined where there was none */
  streams: OpenStreams | undefined
  transaction: Transaction | undefined
  /** whether it was closed from outside over work that is now lost */
  isUndone = false
  #closing: Promise<void> | undefined
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
    this.blocks = new Blocks(this.queue, this)
    this.#begin = new NextBegin(source.dataSource, options, context)
  }

  get isClosed(): boolean {
    return this.#closing !== undefined
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
    return transaction !== undefined && (transaction.wrote || transaction.isAborted || this.#begin.isSerializable)
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

  /** @param isStructured whether the whole `QueryResult` is wanted, and not the driver's rows */
  async query(
    block: Block,
    text: string,
    parameters: readonly unknown[] | undefined,
    isStructured: boolean,
  ): Promise<unknown> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) throw innermost
    const execute = () => this.#opened().execute(text, parameters, levels(innermost))
    if (!this.queue.tryEnter(innermost)) {
      const late = await this.queue.run(innermost, async () => execute())
      return isStructured ? late : late.raw
    }
    try {
      const result = await execute()
      return isStructured ? result : result.raw
    } finally {
      this.queue.leave()
    }
  }

  client(block: Block): Promise<unknown> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) return Promise.reject(innermost)
    return this.queue.run(innermost, async () => this.#opened().client(levels(innermost)))
  }

  /** The queue goes on when the stream has ended: until then its cursor occupies the connection. */
  stream(block: Block, text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) return Promise.reject(innermost)
    return new Promise((resolve, reject) => {
      const step = async () => {
        const stream = await this.#opened().stream(text, parameters, levels(innermost))
        this.streams ??= new OpenStreams()
        const ended = this.streams.follow(stream)
        resolve(stream)
        await ended
      }
      this.queue.run(innermost, step).catch(reject)
    })
  }

  /**
   * State: active -> idle. Does nothing where no transaction is open.
   * @throws {SessionStateError} inside a `transaction()` block; state unchanged
   */
  async commit(block: Block): Promise<void> {
    this.blocks.assertOutside(block, "commit()")
    await finishEnding(await this.queue.run(this.root, () => commitOpen(this)), this)
  }

  /** State: active -> idle. Does nothing where no transaction is open, or the session is closed. */
  async rollback(block: Block): Promise<void> {
    if (this.isClosed) return
    this.blocks.assertOutside(block, "rollback()")
    const hooks = await this.queue.run(this.root, () => rollbackOpen(this))
    await runHooks(hooks, this)
  }

  addHook(block: Block, outcome: "commit" | "rollback", hook: Hook): void {
    if (this.isClosed) throw this.#closedError(`after${outcome === "commit" ? "Commit" : "Rollback"}()`)
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) throw innermost
    innermost.hooks.add(outcome, hook)
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
      await finishEnding(await this.#commitLast(), this)
      if (!this.root.hooks.isEmpty) await runHooks(this.root.hooks.take("commit"), this)
    } finally {
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
    this.queue.refuse(this)
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

  /** Closes, and asks the database to stop the statement that runs. */
  async cancel(): Promise<void> {
    this.#isCancelled = true
    this.isUndone ||= this.hasWritten
    const transaction = this.transaction
    const closed = this.close()
    if (!this.queue.isIdle) await transaction?.cancel()
    await closed
  }

  async #close(): Promise<void> {
    this.queue.refuse(this)
    this.transaction?.cancelConnect(this.#closedError("Waiting for a connection"))
    this.streams?.destroy()
    await this.queue.whenNotRunning()
    const hooks = await rollbackOpen(this)
    this.#closed()
    await runHooks([...hooks, ...this.root.hooks.take("rollback")], this)
  }

  #closed(): void {
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
      await this.queue.run(this.root, async () => undefined)
      await nextTick()
    }
  }

  /** No connection was to be had: nothing has begun, and the next statement may try again. */
  forgetTransaction(transaction: Transaction): void {
    if (this.transaction === transaction) this.#endTransaction()
  }

  #opened(): Transaction {
    if (this.transaction) return this.transaction
    const [options, request] = [this.#begin.options(), this.#begin.request(this)]
    this.source.engine?.validate(options)
    this.transaction = new Transaction(this.source, this.#events, options, request, this.#record, this)
    this.isReported = false
    return this.transaction
  }

  #endTransaction(): void {
    this.transaction = undefined
    this.#begin.forgetChoice()
  }

  /** Seals the session: what a forgotten promise sends during the COMMIT must not begin a transaction of its own. */
  async #commitLast(): Promise<Ending> {
    const step = () => {
      this.queue.refuse(this)
      return commitOpen(this)
    }
    if (!this.queue.tryEnter(this.root)) return this.queue.run(this.root, step)
    try {
      return await step()
    } finally {
      this.queue.leave()
    }
  }

  chooseIsolation(isolation: IsolationLevel): void {
    this.#begin.chooseIsolation(isolation, this.isActive)
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
