import { inspect } from "node:util"
import { EntityManager, type QueryRunner } from "typeorm"
import type { IsolationLevel } from "../engine/connection"
import { createSessionRunner, type RunnerHost } from "../engine/session-runner"
import { SessionStateError } from "../errors"
import type { Block } from "./block"
import type { CompletionHook, Hook } from "./hooks"
import type { UnitOfWork } from "./unit-of-work"

/**
 * The unit of work behind a session, for those who end it: the request's scope and `run()`. No `WeakMap`: V8's scavenger takes
 * the values of one for alive, so that every session would be moved to the old generation.
 */
export let unitOf: (session: Session) => UnitOfWork

/**
 * A TypeORM `EntityManager` whose statements run in one transaction on one connection, both taken when the first statement
 * runs. Lifetime: one request, one `run()`, or from `open()` to `close()`; what was kept of it refuses afterwards.
 * @see SQLAlchemy 2.1 `Session`: same autobegin, and usable again after `commit()`; ours expires no loaded entities.
 */
export class Session extends EntityManager {
  static {
    unitOf = (session) => session.#unit
  }

  readonly #unit: UnitOfWork
  readonly #host: SessionRunnerHost

  /** Made by `SessionMaker`, `contextSession()` and the request's scope; not by applications. */
  constructor(unit: UnitOfWork, block: Block = unit.root) {
    const host = new SessionRunnerHost(unit, block)
    const { dataSource } = unit.source
    super(dataSource, createSessionRunner(dataSource, host, unit.options.readOnly))
    this.#unit = unit
    this.#host = host
    if (block === unit.root) unit.runner = this.queryRunner as QueryRunner
  }

  /** Whether a transaction is open: a statement has run since the last `commit()` or `rollback()`. */
  get inTransaction(): boolean {
    return this.#unit.isInTransaction
  }

  /** Whether `close()` was called, or the request has ended. */
  get closed(): boolean {
    return this.#unit.hasEnded
  }

  /**
   * Commits and gives the connection back; does nothing where no transaction is open. `afterCommit` functions then run, one
   * after another in the order of their registration, before the promise resolves.
   * State: active -> idle; the next statement begins again.
   * @throws {TransactionAbortedError} where a statement had failed and was not rolled back to a savepoint; rolled back, idle
   * @throws {QueryFailedError} where the database refuses the COMMIT; rolled back, idle, no `afterCommit` function runs
   * @throws {DatabaseUnavailableError} where the connection was lost before COMMIT was sent; rolled back, idle
   * @throws {CommitOutcomeUnknownError} where COMMIT was sent and not answered; idle, no `afterRollback` function runs
   * @throws {SessionStateError} inside a `transaction()` block; state unchanged
   * @throws {SessionClosedError} after `close()`
   */
  async commit(): Promise<void> {
    await this.#unit.commit(this.#host.block)
  }

  /**
   * Rolls back and gives the connection back; does nothing where no transaction is open or the session is closed.
   * State: active -> idle; the next statement begins again.
   * @throws {SessionStateError} inside a `transaction()` block; state unchanged
   */
  async rollback(): Promise<void> {
    await this.#unit.rollback(this.#host.block)
  }

  /** Rolls back what is open and ends the session. State: idle or active -> closed. Never rejects; safe to call again. */
  async close(): Promise<void> {
    await this.#unit.close()
  }

  /**
   * Calls `hook` once the open transaction, or the next one, is committed. One that is registered inside a `transaction()`
   * block is forgotten when the block is rolled back. What it throws is reported and changes nothing.
   * After `commit()` by hand the hook can use the session. At the end of `run()` and of a request the session is closed by
   * then: the hook uses `maker.run()`, or a session of its own.
   * @example
   * db.afterCommit(() => mails.send(welcome))
   * @throws {SessionClosedError} after `close()`
   */
  afterCommit(hook: Hook): void {
    this.#unit.addHook(this.#host.block, "committed", hook)
  }

  /**
   * Calls `hook` once the transaction, or the `transaction()` block it is registered in, is rolled back. It can use what an
   * `afterCommit()` function can.
   * @throws {SessionClosedError} after `close()`
   */
  afterRollback(hook: Hook): void {
    this.#unit.addHook(this.#host.block, "rolled back", hook)
  }

  /**
   * Calls `hook` exactly once when the transaction, or the `transaction()` block it is registered in, has ended, in whichever
   * way: it is told "committed", "rolled back" or "unknown" (COMMIT was sent and not answered).
   * It can use what an `afterCommit()` function can.
   * @throws {SessionClosedError} after `close()`
   * @see Spring `TransactionSynchronization.afterCompletion`: same occasions and outcomes.
   */
  afterCompletion(hook: CompletionHook): void {
    this.#unit.addHook(this.#host.block, "any", hook)
  }

  /**
   * Runs `fn` in a savepoint of the session's transaction: it is undone when `fn` rejects, and the session stays usable.
   * Blocks started in parallel run one after another; a block inside a block nests.
   * @throws {SessionOptionsError} where an isolation level is asked for that differs from that of the open transaction,
   *   or from what a block around it asks for
   */
  override transaction<T>(fn: (session: Session) => Promise<T>): Promise<T>
  override transaction<T>(isolation: IsolationLevel, fn: (session: Session) => Promise<T>): Promise<T>
  override async transaction<T>(
    isolationOrFn: IsolationLevel | ((session: Session) => Promise<T>),
    maybeFn?: (session: Session) => Promise<T>,
  ): Promise<T> {
    const isolation = typeof isolationOrFn === "string" ? isolationOrFn : undefined
    const fn = typeof isolationOrFn === "function" ? isolationOrFn : maybeFn
    if (fn === undefined) throw new SessionStateError("transaction() needs a function that does the work.")
    return this.#unit.blocks.run(this.#host.block, isolation, async (block) => fn(new Session(this.#unit, block)))
  }

  /** `await using session = await maker.open()`: rolls back what was not committed, also while an error unwinds. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Shows the state and nothing of the `DataSource`, whose options hold the password. */
  [inspect.custom](): string {
    const state = this.closed ? "closed" : this.inTransaction ? "active" : "idle"
    return `Session { ${this.dataSource.options.type}, ${state} }`
  }
}

/** What the session's query runner asks of it; `queryRunner.startTransaction()` by hand opens a block that it also ends. */
class SessionRunnerHost implements RunnerHost {
  /** opened by hand and not ended by hand yet, the innermost last */
  readonly #opened: Block[] = []

  constructor(
    private readonly unit: UnitOfWork,
    private readonly base: Block,
  ) {}

  /** What was opened by hand in a block ends with that block. */
  get block(): Block {
    if (this.#opened.length === 0) return this.base
    return this.#opened.findLast((block) => block.outcome === undefined && !block.isUndone) ?? this.base
  }

  query(text: string, parameters: readonly unknown[] | undefined, isStructured: boolean) {
    return this.unit.query(this.block, text, parameters, isStructured)
  }

  stream(text: string, parameters: readonly unknown[] | undefined) {
    return this.unit.stream(this.block, text, parameters)
  }

  client() {
    return this.unit.client(this.block)
  }

  async startTransaction(isolation: IsolationLevel | undefined): Promise<void> {
    this.#opened.push(await this.unit.blocks.open(this.block, isolation, true))
  }

  async commitTransaction(): Promise<void> {
    const block = this.#opened.at(-1)
    if (block === undefined) return this.unit.commit(this.base)
    // Where this fails, the block is kept: by custom `rollbackTransaction()` follows, and is to undo no more.
    await this.unit.blocks.release(block)
    this.#opened.pop()
  }

  async rollbackTransaction(): Promise<void> {
    const block = this.#opened.pop()
    if (block === undefined) return this.unit.rollback(this.base)
    if (block.outcome === undefined && !block.isUndone) await this.unit.blocks.rollback(block)
  }
}
