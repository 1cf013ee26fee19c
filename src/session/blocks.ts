import type { IsolationLevel } from "../engine/connection"
import { SessionStateError, TransactionAbortedError } from "../errors"
import { Block, currentBlockWithin, runInBlock } from "./block"
import { type ErrorSink, runHooks } from "./hooks"
import type { StatementQueue } from "./statement-queue"
import type { Transaction } from "./transaction"

/** What the blocks of a session need of it. */
export interface BlockHost extends ErrorSink {
  readonly transaction: Transaction | undefined
  /** @throws {SessionOptionsError} where the open transaction has another one */
  chooseIsolation(isolation: IsolationLevel): void
}

/** The savepoints of one session: blocks run one after another, and one inside another nests. */
export class Blocks {
  readonly #queue: StatementQueue
  readonly #root: Block
  #count = 0

  constructor(
    queue: StatementQueue,
    private readonly host: BlockHost,
  ) {
    this.#queue = queue
    this.#root = queue.top
  }

  /** The block that a call acts in: inside a block, the outer variable means that block, too. */
  innermost(block: Block): Block | TransactionAbortedError {
    const own = block.heir
    if (own.outcome === "rolled back") return rolledBackError()
    if (this.#queue.top === this.#root) return own
    return currentBlockWithin(own) ?? own
  }

  /** @throws {SessionStateError} inside a block, which ends by itself */
  assertOutside(block: Block, what: string): void {
    if (this.innermost(block) === this.#root) return
    throw new SessionStateError(
      `${what} was called inside a transaction() block, which ends by itself: return from the block, or throw to undo it.`,
    )
  }

  /** Runs `fn` in a savepoint, which is undone when `fn` rejects. */
  async run<T>(outer: Block, isolation: IsolationLevel | undefined, fn: (block: Block) => Promise<T>): Promise<T> {
    const block = await this.open(outer, isolation)
    let result: T
    try {
      result = await runInBlock(block, () => fn(block))
    } catch (error) {
      // The first error wins.
      await this.rollback(block).catch((failure: unknown) => this.host.report(failure))
      throw error
    }
    await this.release(block)
    return result
  }

  /** @param isByHand whether no code is bound to end it */
  async open(outer: Block, isolation: IsolationLevel | undefined, isByHand = false): Promise<Block> {
    const parent = this.innermost(outer)
    if (parent instanceof Error) throw parent
    return this.#queue.run(parent, async () => {
      if (isolation) this.host.chooseIsolation(isolation)
      const block = new Block(parent.heir, `session_${++this.#count}`, isByHand)
      block.wasAborted = this.host.transaction?.isAborted === true
      this.#queue.top = block
      return block
    })
  }

  /** @throws {TransactionAbortedError} where a statement of the block had failed; the block is then rolled back */
  async release(block: Block): Promise<void> {
    try {
      await this.#queue.runLast(block, async () => {
        try {
          await this.host.transaction?.releaseSavepoint(block)
        } catch (error) {
          // The first error wins.
          await this.#undo(block).catch((failure: unknown) => this.host.report(failure))
          throw error
        }
        block.outcome = "released"
        block.parent?.hooks.adopt(block.hooks)
        this.#queue.top = block.parent ?? this.#root
      })
    } finally {
      if (block.outcome !== "released") await runHooks(block.hooks.take("rollback"), this.host)
    }
  }

  async rollback(block: Block): Promise<void> {
    this.#queue.refuseBlock(block, rolledBackError)
    try {
      await this.#queue.runLast(block, () => this.#undo(block))
    } finally {
      await runHooks(block.hooks.take("rollback"), this.host)
    }
  }

  /** @throws {SessionStateError} where the innermost block is one that no code is bound to end */
  refuseByHand(): void {
    if (!this.#queue.top.isByHand) return
    throw new SessionStateError(
      "A transaction that was begun with queryRunner.startTransaction() has not been ended: call commitTransaction() or " +
        "rollbackTransaction(), or use db.transaction(...), which ends by itself.",
    )
  }

  async #undo(block: Block): Promise<void> {
    try {
      await this.host.transaction?.rollbackToSavepoint(block)
    } finally {
      block.outcome = "rolled back"
      this.#queue.top = block.parent ?? this.#root
      // What was issued while it was being undone.
      this.#queue.refuseBlock(block, rolledBackError)
    }
  }
}

function rolledBackError(): TransactionAbortedError {
  return new TransactionAbortedError(
    "A statement was refused: the transaction() block that it belongs to has been rolled back. " +
      "Await every statement of a block in it.",
  )
}
