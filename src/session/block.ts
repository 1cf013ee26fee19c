import { CountedStorage } from "./counted-storage"
import { Hooks } from "./hooks"

/**
 * A level of a session's transaction: the transaction itself (the root), or one `transaction()` block, which is a savepoint.
 * Of the blocks of a session one is innermost; the statements of the others wait until it has ended.
 */
export class Block {
  readonly hooks = new Hooks()
  /** whether the server knows the savepoint; it is sent with the block's first statement */
  isSent = false
  /** whether the transaction was aborted already before the block */
  wasAborted = false
  outcome: "released" | "rolled back" | undefined

  constructor(
    readonly parent: Block | undefined,
    /** savepoint's name; empty for the root */
    readonly name: string,
    /** begun by `queryRunner.startTransaction()`: no code is bound to end it */
    readonly isByHand = false,
  ) {}

  /** The block that its statements belong to now: once it is released, the one around it. */
  get heir(): Block {
    let heir: Block = this
    while (heir.outcome === "released" && heir.parent) heir = heir.parent
    return heir
  }

  /** Whether it, or a block around it, was rolled back: what belongs to it is refused. */
  get isUndone(): boolean {
    for (let block: Block | undefined = this; block; block = block.parent)
      if (block.outcome === "rolled back") return true
    return false
  }

  isWithin(other: Block): boolean {
    for (let block: Block | undefined = this; block; block = block.parent) if (block === other) return true
    return false
  }
}

/** The blocks from the outermost to `block`, without the root, which is no savepoint. */
export function levels(block: Block): readonly Block[] {
  if (block.parent === undefined) return NONE
  const blocks: Block[] = []
  for (let level: Block | undefined = block.heir; level?.parent; level = level.parent) blocks.unshift(level)
  return blocks
}

const NONE: readonly Block[] = []

/** The statements that go before the next one: `begin`, and the savepoints that the server does not know yet. */
export function withSavepoints(begin: readonly string[], blocks: readonly Block[]): readonly string[] {
  if (blocks.length === 0) return begin
  const unsent = blocks.filter((block) => !block.isSent)
  return unsent.length === 0 ? begin : [...begin, ...unsent.map((block) => `SAVEPOINT ${block.name}`)]
}

/**
 * Which block a piece of code was started in. A call through the outer variable inside a block and a call of a parallel sibling
 * look the same but for that: the first belongs to the block, and is undone or refused with it.
 */
const storage = new CountedStorage<Frame>()

interface Frame {
  readonly block: Block
  readonly outer: Frame | undefined
}

export function runInBlock<T>(block: Block, fn: () => Promise<T>): Promise<T> {
  return storage.run({ block, outer: storage.get() }, fn)
}

/**
 * Keeps code in the block that it was started in also after that block has ended, until what is returned is called: at the end
 * of the session, which then refuses everything.
 */
export function keepBlocks(): () => void {
  return storage.hold()
}

/** @returns the innermost block of the session of `root` that this code was started in; blocks of other sessions may be in between */
export function blockOfCode(root: Block): Block | undefined {
  for (let frame = storage.get(); frame; frame = frame.outer) if (frame.block.isWithin(root)) return frame.block
  return undefined
}
