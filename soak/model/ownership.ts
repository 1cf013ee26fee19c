import type { Session } from "../../src"
import { BlockRecord, type HookRecord, type StatementRecord } from "./trace"

/** A block that was begun by hand on a variable. */
interface ByHand {
  readonly block: BlockRecord
  /** while it is begun or ended, either may be right */
  isSure: boolean
}

/**
 * Knows which block a call belongs to. Code belongs to the block that it was started in; a variable whose block is not around
 * the code means the variable's own. No code is bound to a block that was begun by hand: it is in force for its variable.
 */
export class Ownership {
  readonly #blockOf = new Map<Session, BlockRecord>()
  readonly #byHand = new Map<Session, ByHand[]>()
  /** those whose code has not ended them yet, in the order begun */
  readonly #running = new Map<BlockRecord, Session>()
  readonly #leftOpen = new Map<BlockRecord, Session>()
  /** those that are under way: their later steps may meet another block */
  readonly #pending = new Map<StatementRecord, Session>()

  constructor(private readonly root: BlockRecord) {}

  bind(session: Session, block: BlockRecord): void {
    this.#blockOf.set(session, block)
  }

  /** @param code the block that the calling code is in @returns one, or those that may be right */
  of(session: Session, code: BlockRecord): readonly BlockRecord[] {
    const bases = this.#basesOf(session)
    const owners = alternativesOf(code).flatMap((place) =>
      bases.flatMap((base) => {
        let heir = base
        while (heir.outcome === "released" && heir.parents[0]) heir = heir.parents[0]
        if (place.isWithin(heir)) return [place]
        // Code beside the one that began a block by hand on the same variable: in that block, or in its own.
        return base.kind === "by hand" && base.outcome === undefined ? [base, place] : [base]
      }),
    )
    return [...new Set(owners)]
  }

  async follow<T>(record: StatementRecord, session: Session, call: () => Promise<T>): Promise<T> {
    this.#pending.set(record, session)
    try {
      return await call()
    } finally {
      this.#pending.delete(record)
    }
  }

  beginByHand(session: Session, block: BlockRecord): void {
    this.#byHand.set(session, [...this.#entriesOf(session), { block, isSure: false }])
    for (const [record, its] of this.#pending) if (its === session) add(record, [block])
  }

  /** @param around the blocks by hand that the code is in which begins it @returns whether another one is open beside it */
  enterByHand(session: Session, block: BlockRecord, around: readonly BlockRecord[]): boolean {
    const isBeside = this.isBesideByHand(around) || this.#pending.size > 0
    this.#running.set(block, session)
    return isBeside
  }

  /**
   * @param around the blocks by hand that the calling code is in
   * @returns whether another one is open: nothing tells whether what is called belongs to it or to the block around both
   */
  isBesideByHand(around: readonly BlockRecord[]): boolean {
    return [...this.#running.keys()].some((other) => !around.includes(other))
  }

  /** @returns whether one that was begun in it is open still: an end meant for this one is that of the other */
  hasByHandInside(block: BlockRecord): boolean {
    const session = this.#running.get(block)
    const others = [...this.#running, ...this.#leftOpen]
    return others.some(([other, its]) => its === session && other.openedAt > block.openedAt)
  }

  leaveByHand(block: BlockRecord): void {
    const session = this.#running.get(block)
    this.#running.delete(block)
    if (session && block.outcome === undefined) this.#leftOpen.set(block, session)
  }

  assureByHand(block: BlockRecord): void {
    for (const entry of this.#entries()) if (entry.block === block) entry.isSure = true
  }

  /** It and those within are about to end, or to be undone with what is around them. */
  doubtByHand(block: BlockRecord): void {
    for (const entry of this.#entries()) if (entry.block.isWithin(block)) entry.isSure = false
    if (block.kind !== "by hand") return
    for (const record of this.#pending.keys()) if (record.owners.includes(block)) add(record, block.parents)
  }

  forgetByHand(block: BlockRecord): void {
    for (const [session, entries] of this.#byHand) {
      this.#byHand.set(
        session,
        entries.filter((entry) => !entry.block.isWithin(block)),
      )
    }
  }

  #basesOf(session: Session): readonly BlockRecord[] {
    const bases: BlockRecord[] = []
    for (const { block, isSure } of [...this.#entriesOf(session)].reverse()) {
      bases.push(block)
      if (isSure) return bases
    }
    return [...bases, this.#blockOf.get(session) ?? this.root]
  }

  #entriesOf(session: Session): readonly ByHand[] {
    return this.#byHand.get(session) ?? []
  }

  #entries(): ByHand[] {
    return [...this.#byHand.values()].flat()
  }
}

/** What code is in that was started in a block by hand which has ended meanwhile: that one, or what is around. */
function alternativesOf(code: BlockRecord): readonly BlockRecord[] {
  if (code.kind !== "by hand" || code.bodyEndedAt === Number.POSITIVE_INFINITY) return [code]
  return [code, ...code.parents.flatMap(alternativesOf)]
}

function add(record: StatementRecord | HookRecord, blocks: readonly BlockRecord[]): void {
  record.owners = [...new Set([...record.owners, ...blocks])]
}
