import type { IsolationLevel } from "../engine/connection"
import { SessionStateError, TransactionAbortedError } from "../errors"
import { Block, blockOfCode, keepBlocks, runInBlock } from "./block"
import { type ErrorSink, type Hook, runHooks } from "./hooks"
import { isolationError } from "./next-begin"
import type { OpenStreams } from "./open-streams"
import type { StatementQueue } from "./statement-queue"
import type { Transaction } from "./transaction"

/** What the blocks of a session need of it. */
export interface BlockHost extends ErrorSink {
  readonly transaction: Transaction | undefined
  readonly streams: OpenStreams | undefined
  /** @throws {SessionOptionsError} where the open transaction has another one */
  assertIsolation(isolation: IsolationLevel): void
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
    if (started === undefined) return this.#byHandIn(own)
    if (started.isUndone) return rolledBackError()
    const belonging = started.heir
    return this.#byHandIn(belonging.isWithin(own) ? belonging : own)
  }

  /** What is begun by hand in a block takes all that belongs to that block, whichever variable began it. */
  #byHandIn(block: Block): Block {
    const { top } = this.#queue
    let outer = top
    while (outer !== block && outer.isByHand && outer.parent) outer = outer.parent
    return outer === block ? top : block
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
      if (isolation) this.#assertIsolation(isolation)
      // Until the session has closed: what a block leaves behind must not be taken for code outside of it.
      this.#stopKeeping ??= keepBlocks()
      const block = new Block(parent.heir, `session_${++this.#count}`, isByHand, isolation)
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
    const step = async () => {
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
    }
    try {
      await this.#queue.runLast(block, step, () => this.#undoLate(block))
    } finally {
      await runHooks(hooks, this.host)
    }
  }

  /** @throws {AcquireTimeoutError} where what runs in it does not end; undone as soon as it does */
  async rollback(block: Block): Promise<void> {
    this.#queue.refuseBlock(block, rolledBackError)
    // Nobody reads on in what is undone.
    this.host.streams?.destroy(block)
    let hooks: readonly Hook[]
    try {
      hooks = await this.#queue.runLast(
        block,
        () => this.#undo(block),
        () => this.#undoLate(block),
        true,
      )
    } catch (error) {
      // A block around it was undone meanwhile, and this one with it.
      if (block.parent?.isUndone) return
      throw error
    }
    await runHooks(hooks, this.host)
  }

  /** Its end has waited too long, and whoever waited knows: from now on it is refused, and undone when its turn comes. */
  #undoLate(block: Block): () => Promise<void> {
    block.outcome = "rolled back"
    this.#queue.refuseBlock(block, rolledBackError)
    this.host.streams?.destroy(block)
    return async () => {
      const hooks = await this.#undo(block)
      // Not in the step, so that they can use the session.
      void runHooks(hooks, this.host)
    }
  }

  /** @throws {SessionStateError} where the innermost block is one that no code is bound to end */
  refuseByHand(): void {
    if (this.#queue.top.isByHand) throw byHandError()
  }

  /** What the open blocks have chosen for a transaction that begins in them; once they have ended, nothing is left of it. */
  get isolation(): IsolationLevel | undefined {
    for (let block: Block | undefined = this.#queue.top; block; block = block.parent) {
      if (block.isolation !== undefined) return block.isolation
    }
    return undefined
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

  #assertIsolation(isolation: IsolationLevel): void {
    const { isolation: around } = this
    if (around !== undefined && around !== isolation) throw isolationError(isolation)
    this.host.assertIsolation(isolation)
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
    // What was issued while it was being undone.
    this.#queue.refuseBlock(block, rolledBackError, true)
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
