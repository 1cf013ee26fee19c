import type { IsolationLevel } from "../engine/connection"
import { SessionStateError, TransactionAbortedError } from "../errors"
import { Block, blockOfCode, keepBlocks, runInBlock } from "./block"
import { type ErrorSink, type Hook, runHooks } from "./hooks"
import type { StatementQueue } from "./statement-queue"
import type { Transaction } from "./transaction"

/** What the blocks of a session need of it. */
export interface BlockHost extends ErrorSink {
  readonly transaction: Transaction | undefined
  /** @throws {SessionOptionsError} where the open transaction has another one */
  chooseIsolation(isolation: IsolationLevel): void
  /** what a block has chosen that is undone before anything was sent */
  forgetIsolation(): void
}

/** The savepoints of one session: blocks run one after another, and one inside another nests. */
export class Blocks {
  readonly #queue: StatementQueue
  readonly #root: Block
  #count = 0
  #stopKeeping: (() => void) | undefined

  constructor(
    queue: StatementQueue,
    private readonly host: BlockHost,
  ) {
    this.#queue = queue
    this.#root = queue.top
  }

  /**
   * The block that a call acts in: code that was started in a block belongs to it, whichever variable it uses.
   * @returns the error that refuses it, where that block was rolled back
   */
  innermost(block: Block): Block | TransactionAbortedError {
    if (this.#count === 0) return block
    if (block.isUndone) return rolledBackError()
    const own = block.heir
    const started = blockOfCode(this.#root)
    if (started === undefined) return own
    if (started.isUndone) return rolledBackError()
    const belonging = started.heir
    return belonging.isWithin(own) ? belonging : own
  }

  /** @throws {SessionStateError} inside a block, which ends by itself */
  assertOutside(block: Block, what: string): void {
    const innermost = this.innermost(block)
    if (innermost === this.#root) return
    if (innermost instanceof Error) {
      throw new SessionStateError(
        `${what} was called by code of a transaction() block that has been rolled back: the session is as it was.`,
      )
    }
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
      this.#refuseOpenInside(block)
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
    return this.#queue.run(parent, A_BLOCK, async () => {
      if (isolation) this.host.chooseIsolation(isolation)
      // Until the session has closed: what a block leaves behind must not be taken for code outside of it.
      this.#stopKeeping ??= keepBlocks()
      const block = new Block(parent.heir, `session_${++this.#count}`, isByHand)
      block.wasAborted = this.host.transaction?.isAborted === true
      this.#queue.top = block
      return block
    })
  }

  /** The session has closed. */
  close(): void {
    this.#stopKeeping?.()
    this.#stopKeeping = undefined
  }

  /** @throws {TransactionAbortedError} where a statement of the block had failed; the block is then rolled back */
  async release(block: Block): Promise<void> {
    if (block.isUndone) throw rolledBackError()
    let hooks: readonly Hook[] = []
    try {
      await this.#queue.runLast(block, async () => {
        try {
          await this.host.transaction?.releaseSavepoint(block)
        } catch (error) {
          // The first error wins.
          hooks = await this.#undo(block)
          throw error
        }
        block.outcome = "released"
        block.parent?.hooks.adopt(block.hooks)
        this.#queue.top = block.parent ?? this.#root
        this.#forgetIsolationIfUnused()
      })
    } finally {
      await runHooks(hooks, this.host)
    }
  }

  async rollback(block: Block): Promise<void> {
    this.#queue.refuseBlock(block, rolledBackError)
    let hooks: readonly Hook[]
    try {
      hooks = await this.#queue.runLast(block, () => this.#undo(block), true)
    } catch (error) {
      // A block around it was undone meanwhile, and this one with it.
      if (block.isUndone) return
      throw error
    }
    await runHooks(hooks, this.host)
  }

  /** @throws {SessionStateError} where the innermost block is one that no code is bound to end */
  refuseByHand(): void {
    if (this.#queue.top.isByHand) throw byHandError()
  }

  /** What a session that closes does with its open blocks: they end with the transaction. */
  takeOpenHooks(take: (block: Block) => readonly Hook[]): readonly Hook[] {
    const blocks: Block[] = []
    for (let block: Block | undefined = this.#queue.top; block; block = block.parent) blocks.unshift(block)
    return blocks.flatMap((block) => take(block))
  }

  /** The server knows none of the savepoints any more: the transaction ended under them. */
  forgetSent(): void {
    for (let block: Block | undefined = this.#queue.top; block; block = block.parent) {
      block.isSent = false
      block.wasAborted = false
    }
  }

  #refuseOpenInside(block: Block): void {
    const { top } = this.#queue
    if (top !== block && top.isByHand && top.isWithin(block)) throw byHandError()
  }

  #forgetIsolationIfUnused(): void {
    if (this.host.transaction === undefined && this.#queue.top === this.#root) this.host.forgetIsolation()
  }

  /** Undoes the block, and those inside it that nobody ended. Never rejects: what fails is reported, the work is refused anyway. */
  async #undo(block: Block): Promise<readonly Hook[]> {
    try {
      await this.host.transaction?.rollbackToSavepoint(block)
    } catch (error) {
      this.host.report(error)
    }
    const undone: Block[] = []
    for (let inner: Block | undefined = this.#queue.top; inner?.isWithin(block); inner = inner.parent)
      undone.unshift(inner)
    if (!undone.includes(block)) undone.unshift(block)
    for (const one of undone) one.outcome = "rolled back"
    this.#queue.top = block.parent ?? this.#root
    this.#forgetIsolationIfUnused()
    // What was issued while it was being undone.
    this.#queue.refuseBlock(block, rolledBackError)
    return undone.flatMap(({ hooks }) => hooks.take("rolled back"))
  }
}

const A_BLOCK = { phrase: "a transaction() block" }

function byHandError(): SessionStateError {
  return new SessionStateError(
    "A transaction that was begun with queryRunner.startTransaction() has not been ended: call commitTransaction() or " +
      "rollbackTransaction(), or use db.transaction(...), which ends by itself.",
  )
}

function rolledBackError(): TransactionAbortedError {
  return new TransactionAbortedError(
    "A statement was refused: the transaction() block that it belongs to has been rolled back. " +
      "Await every statement of a block in it.",
  )
}
