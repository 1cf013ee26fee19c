import { setImmediate as nextTurn } from "node:timers/promises"
import type { QueryResult, QueryRunner } from "typeorm"
import type { BeginOptions, ConnectionOwner, IsolationLevel } from "../engine/connection"
import { SessionClosedError, SessionOptionsError, SessionStateError } from "../errors"
import { Block, levels } from "./block"
import { Blocks } from "./blocks"
import { closedError } from "./closed-error"
import type { EngineSource } from "./engine-source"
import { stopWatching, type Watched, watchTransaction } from "./held-too-long"
import { type Hook, runHooks } from "./hooks"
import { OpenStreams } from "./open-streams"
import type { ResolvedSessionOptions } from "./options"
import { QueryEvents } from "./query-events"
import { SessionRecord } from "./session-record"
import { StatementQueue } from "./statement-queue"
import type { Tally } from "./tally"
import { Transaction, undoneError } from "./transaction"

/** What a session is told of its surroundings. */
export interface SessionContext {
  /** SQLite: whether it takes the write lock when it begins */
  readonly asWriter: boolean
  /** who uses it, such as "GET /users/:userId" */
  readonly label: () => string
  /** takes errors that can be given to nobody: failing hooks, failing rollbacks */
  readonly report: (error: unknown) => void
  /** takes the errors of statements that came after the end; they reject as well */
  readonly reportLate?: (error: SessionClosedError) => void
  readonly variables?: (() => Readonly<Record<string, string>> | undefined) | undefined
  /** ms after which a transaction that is still open is reported once; default never */
  readonly warnAfterMs?: number | undefined
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
export class UnitOfWork implements ConnectionOwner {
  readonly root = new Block(undefined, "")
  readonly blocks: Blocks
  /** whether it has committed anything yet */
  hasCommitted = false
  /** of the session itself; set by whoever makes both */
  runner!: QueryRunner
  readonly streams = new OpenStreams()
  readonly #queue = new StatementQueue(this.root)
  #transaction: Transaction | undefined
  readonly #ownIsolation: IsolationLevel | undefined
  /** of the present transaction, or else of the next one */
  #isolation: IsolationLevel | undefined
  #closing: Promise<void> | undefined
  #isCancelled = false
  #isUndone = false
  #watched: Watched | undefined
  readonly #record: SessionRecord
  readonly #events: QueryEvents

  constructor(
    readonly source: EngineSource,
    readonly options: ResolvedSessionOptions,
    private readonly context: SessionContext,
    tally: Tally,
    private readonly onClosed: (unit: UnitOfWork) => void,
  ) {
    this.#events = new QueryEvents(source.dataSource, () => this.runner, this.#queue)
    this.#record = new SessionRecord(context.label, tally)
    this.blocks = new Blocks(this.#queue, {
      transaction: () => this.#transaction,
      chooseIsolation: (isolation) => this.#chooseIsolation(isolation),
      report: context.report,
    })
    this.#ownIsolation =
      options.isolation ?? (source.dataSource.options as { isolationLevel?: IsolationLevel }).isolationLevel
    this.#isolation = this.#ownIsolation
  }

  get isClosed(): boolean {
    return this.#closing !== undefined
  }

  /** Whether a transaction is open, or waits for its connection. */
  get isActive(): boolean {
    return this.#transaction !== undefined
  }

  get isInTransaction(): boolean {
    return this.#transaction?.isOpen === true
  }

  /** Whether the open transaction may have changed something; a `SERIALIZABLE` one can fail at its commit all the same. */
  get hasWritten(): boolean {
    const transaction = this.#transaction
    return (
      transaction !== undefined && (transaction.wrote || transaction.isAborted || this.#isolation === "SERIALIZABLE")
    )
  }

  /** Whether nothing runs or waits: all that was issued has been answered. */
  get isQuiet(): boolean {
    return this.#queue.isIdle && this.#queue.top === this.root
  }

  /** ms since the open transaction began; 0 where none is open */
  get activeMs(): number {
    return this.#transaction ? performance.now() - this.#transaction.startedAt : 0
  }

  describe(): string {
    return this.isActive ? `${this.context.label()} (for ${Math.round(this.activeMs)} ms)` : this.context.label()
  }

  query(block: Block, text: string, parameters: readonly unknown[] | undefined): Promise<QueryResult> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) return Promise.reject(innermost)
    return this.#queue.run(innermost, () =>
      this.#begun((transaction) => transaction.execute(text, parameters, levels(innermost))),
    )
  }

  client(block: Block): Promise<unknown> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) return Promise.reject(innermost)
    return this.#queue.run(innermost, () => this.#begun((transaction) => transaction.client(levels(innermost))))
  }

  /** The queue goes on when the stream has ended: until then its cursor occupies the connection. */
  stream(block: Block, text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream> {
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) return Promise.reject(innermost)
    return new Promise((resolve, reject) => {
      const step = async () => {
        const stream = await this.#begun((transaction) => transaction.stream(text, parameters, levels(innermost)))
        const ended = this.streams.follow(stream)
        resolve(stream)
        await ended
      }
      this.#queue.run(innermost, step).catch(reject)
    })
  }

  /**
   * State: active -> idle. Does nothing where no transaction is open.
   * @throws {SessionStateError} inside a `transaction()` block; state unchanged
   */
  async commit(block: Block): Promise<void> {
    this.#refuseInBlock(block, "commit()")
    await this.#ended(await this.#queue.run(this.root, () => this.#commitOpen()))
  }

  /** State: active -> idle. Does nothing where no transaction is open, or the session is closed. */
  async rollback(block: Block): Promise<void> {
    if (this.isClosed) return
    this.#refuseInBlock(block, "rollback()")
    const hooks = await this.#queue.run(this.root, () => this.#rollbackOpen())
    await runHooks(hooks, this.context.report)
  }

  addHook(block: Block, outcome: "commit" | "rollback", hook: Hook): void {
    if (this.isClosed) throw this.#closedError(`after${outcome === "commit" ? "Commit" : "Rollback"}()`)
    const innermost = this.blocks.innermost(block)
    if (innermost instanceof Error) throw innermost
    innermost.hooks[outcome].push(hook)
  }

  /**
   * Ends the session's work well: waits for what was issued before, commits, refuses what comes later, and closes.
   * @throws what `commit()` throws; closed all the same
   */
  async complete(): Promise<void> {
    await this.#closing
    if (this.#isUndone) throw undoneError()
    if (this.isClosed) return
    try {
      await this.#drain()
      const end = await this.#queue.run(this.root, () => {
        // Sealed from here: what a forgotten promise sends during the COMMIT must not begin a transaction of its own.
        this.#refuse()
        return this.#commitOpen()
      })
      await this.#ended(end)
      await runHooks(this.root.hooks.take("commit"), this.context.report)
    } finally {
      await this.close()
    }
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
    this.#isUndone ||= this.hasWritten
    const transaction = this.#transaction
    const closed = this.close()
    if (!this.#queue.isIdle) await transaction?.cancel()
    await closed
  }

  async #close(): Promise<void> {
    this.#refuse()
    this.#transaction?.cancelConnect(this.#closedError("Waiting for a connection"))
    this.streams.destroy()
    await this.#queue.whenNotRunning()
    const hooks = await this.#rollbackOpen()
    this.onClosed(this)
    this.#record.closed()
    await runHooks([...hooks, ...this.root.hooks.take("rollback")], this.context.report)
  }

  /**
   * Work that the action issued and did not wait for is part of it: it runs before the commit, the later steps of a `save()`
   * included. Without any, nothing is waited for.
   */
  async #drain(): Promise<void> {
    while (!this.isQuiet) {
      if (this.#queue.isIdle) this.blocks.refuseByHand()
      await this.#queue.run(this.root, async () => undefined)
      await nextTurn()
    }
  }

  async #begun<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    this.#transaction ??= this.#newTransaction()
    const transaction = this.#transaction
    try {
      return await work(transaction)
    } catch (error) {
      // No connection: nothing has begun, and the next statement may try again.
      if (!transaction.isOpen && this.#transaction === transaction) this.#endTransaction()
      throw error
    }
  }

  #newTransaction(): Transaction {
    const { acquireTimeoutMs, readOnly } = this.options
    const request = { owner: this, timeoutMs: acquireTimeoutMs, onReplica: readOnly, asWriter: this.#asWriter }
    const { report } = this.context
    const transaction = new Transaction(this.source, this.#events, this.#beginOptions(), request, this.#record, report)
    this.#watch(transaction.startedAt)
    return transaction
  }

  #watch(startedAt: number): void {
    const { warnAfterMs, label, report } = this.context
    if (warnAfterMs === undefined) return
    this.#watched = { startedAt, warnAfterMs, label, unit: this, report }
    watchTransaction(this.#watched)
  }

  #endTransaction(): void {
    this.#transaction = undefined
    this.#isolation = this.#ownIsolation
    if (this.#watched) stopWatching(this.#watched)
  }

  get #asWriter(): boolean {
    return this.context.asWriter && !this.options.readOnly
  }

  #beginOptions(): BeginOptions {
    const { readOnly, timeoutMs, deferBegin } = this.options
    const variables = this.context.variables?.()
    return { isolation: this.#isolation, readOnly, timeoutMs, asWriter: this.#asWriter, variables, deferBegin }
  }

  /** Hooks run after the step and not in it, so that they can use the session. */
  async #commitOpen(): Promise<TransactionEnd> {
    const transaction = this.#transaction
    if (transaction === undefined) return { hooks: [] }
    try {
      await transaction.commit()
      this.hasCommitted = true
      return { hooks: [transaction.announceEnd, ...this.root.hooks.take("commit")] }
    } catch (error) {
      return { hooks: [transaction.announceEnd, ...this.root.hooks.take("rollback")], failure: { error } }
    } finally {
      this.#endTransaction()
    }
  }

  async #ended({ hooks, failure }: TransactionEnd): Promise<void> {
    await runHooks(hooks, this.context.report)
    if (failure) throw failure.error
  }

  async #rollbackOpen(): Promise<Hook[]> {
    const transaction = this.#transaction
    if (transaction === undefined) return []
    await transaction.rollback()
    this.#endTransaction()
    return [transaction.announceEnd, ...this.root.hooks.take("rollback")]
  }

  #refuseInBlock(block: Block, what: string): void {
    if (this.blocks.innermost(block) === this.root) return
    throw new SessionStateError(
      `${what} was called inside a transaction() block, which ends by itself: return from the block, or throw to undo it.`,
    )
  }

  /** The first thing in a session may still choose its isolation; after that it is what it is. */
  #chooseIsolation(isolation: IsolationLevel): void {
    if (isolation === this.#isolation) return
    if (this.isActive) {
      throw new SessionOptionsError(
        `transaction("${isolation}") cannot change the isolation of the transaction that it is part of: ` +
          `ask for it with @Session({ isolation: "${isolation}" }).`,
      )
    }
    this.#isolation = isolation
  }

  /** Whoever issues a statement after the end may have forgotten to await it, so that nobody sees the rejection. */
  #refuse(): void {
    this.#queue.refuse(
      () => this.#closedError("A statement"),
      () => {
        const error = this.#closedError("A statement")
        this.#record.refused()
        if (!this.#isCancelled) this.context.reportLate?.(error)
        return error
      },
    )
  }

  #closedError = (what: string): SessionClosedError => closedError(what, this.context.label())
}

interface TransactionEnd {
  readonly hooks: readonly Hook[]
  readonly failure?: { readonly error: unknown }
}
