import { AsyncLocalStorage } from "node:async_hooks"
import { Hooks } from "./hooks"

/**
 * A level of a session's transaction: the transaction itself (the root), or one `transaction()` block, which is a savepoint.
 * Of the blocks of a session one is innermost; the statements of the others wait until it has ended.
 */
export class Block {
  readonly hooks = new Hooks()
  /** whether the server knows the savepoint; it is sent with the block's first statement */
  isSent = false
  outcome: "released" | "rolled back" | undefined

  constructor(
    readonly parent: Block | undefined,
    /** savepoint's name; empty for the root */
    readonly name: string,
  ) {}

  isWithin(other: Block): boolean {
    for (let block: Block | undefined = this; block; block = block.parent) if (block === other) return true
    return false
  }
}

/** The blocks from the outermost to `block`, without the root, which is no savepoint. */
export function levels(block: Block): readonly Block[] {
  if (block.parent === undefined) return NONE
  const blocks: Block[] = []
  for (let level: Block | undefined = block; level?.parent; level = level.parent) blocks.unshift(level)
  return blocks
}

const NONE: readonly Block[] = []

/**
 * Which block a piece of code runs in. A call through the outer variable inside a block and a call of a parallel sibling
 * look the same but for that, and only one of them may wait for the block to end.
 * The storage is switched off while no block is open: on Node 20 it slows every promise of the process down.
 */
const storage = new AsyncLocalStorage<Block>()
let openBlocks = 0

export async function runInBlock<T>(block: Block, fn: () => Promise<T>): Promise<T> {
  openBlocks++
  try {
    return await storage.run(block, fn)
  } finally {
    openBlocks--
    if (openBlocks === 0) storage.disable()
  }
}

export function currentBlock(): Block | undefined {
  return openBlocks === 0 ? undefined : storage.getStore()
}
