import type { Difference } from "./difference"
import type { TableName } from "./program"
import { type Cell, keysOf, marksIn, stepOfMark } from "./statements"
import { type BlockRecord, nameOf, type StatementRecord, type Trace } from "./trace"
import { type TransactionEnd, transactionsOf, type UnseenEnd } from "./transactions"

/** Cells by table and key, such as "a1"; each has the mark of the statement that wrote it. */
export type Cells = ReadonlyMap<string, number>

/** One row of one statement, at the time it was sent. */
interface Effect {
  readonly at: number
  readonly record: StatementRecord
  readonly owners: readonly BlockRecord[]
  readonly mark: number
  readonly verb: string
  readonly cell: string | undefined
  readonly hasFailed: boolean
}

/** A block that was rolled back, on top of what is around it. */
interface Frame {
  readonly block: BlockRecord
  cells: Map<string, number>
}

/** Where more than one outcome is right: which of several owners, whether an unknown commit took place. */
export interface Choices {
  readonly owners: ReadonlyMap<object, BlockRecord>
  readonly ends: ReadonlyMap<TransactionEnd, "committed" | "rolled back">
}

export interface Replayed {
  readonly cells: Cells
  readonly differences: readonly Difference[]
}

/** Computes what a run must leave behind, from what was sent in which order and how the blocks and transactions ended. */
export class Replay {
  readonly ends: readonly TransactionEnd[]
  readonly unseenEnds: readonly UnseenEnd[]
  readonly #effects: readonly Effect[]

  constructor(
    private readonly trace: Trace,
    private readonly start: Cells,
  ) {
    const { ends, unseen } = transactionsOf(trace)
    this.ends = ends
    this.unseenEnds = unseen
    this.#effects = effectsOf(trace)
  }

  /** @returns all combinations; undefined where they are too many */
  choices(): Choices[] | undefined {
    const doubtful = [...this.#effects, ...this.trace.hooks].filter(({ owners }) => owners.length > 1)
    const questions: [object, readonly unknown[]][] = [
      ...doubtful.map((record): [object, readonly unknown[]] => [record, record.owners]),
      ...this.trace.blocks
        .filter(({ parents }) => parents.length > 1)
        .map((block): [object, readonly unknown[]] => [block, block.parents]),
      ...this.ends
        .filter(({ outcome }) => outcome === "unknown")
        .map((end): [object, readonly unknown[]] => [end, ["committed", "rolled back"]]),
    ]
    if (questions.length > 7) return undefined
    let combinations: Map<object, unknown>[] = [new Map()]
    for (const [subject, answers] of questions) {
      combinations = combinations.flatMap((known) => answers.map((answer) => new Map([...known, [subject, answer]])))
    }
    return combinations.map((known) => ({ owners: known as Choices["owners"], ends: known as Choices["ends"] }))
  }

  /** @returns the blocks that were rolled back around a statement or hook, the outermost one first */
  undoing(record: { readonly owners: readonly BlockRecord[] }, { owners }: Choices): readonly BlockRecord[] {
    const around: BlockRecord[] = []
    let block = owners.get(record) ?? record.owners[0]
    for (; block; block = owners.get(block) ?? block.parents[0])
      if (block.outcome === "rolled back") around.unshift(block)
    return around
  }

  /** Whether anything was sent in the transaction before its end. */
  hasBegun(end: TransactionEnd): boolean {
    const before = this.ends[this.ends.indexOf(end) - 1]?.at ?? 0
    return this.#effects.some(({ at }) => at > before && at < end.at)
  }

  run(choices: Choices): Replayed {
    const differences: Difference[] = []
    let committed = new Map(this.start)
    let frames: Frame[] = []
    let ended = new Set<BlockRecord>()
    /** what failed in the open transaction and was not undone by a block */
    let unrepaired: Effect | undefined
    let root = new Map(committed)
    const remaining = [...this.ends]
    let lastAt = 0

    const finish = (end: TransactionEnd) => {
      const outcome = choices.ends.get(end) ?? end.outcome
      if (outcome === "committed" && unrepaired && !end.isRaw) {
        differences.push({
          kind: "end",
          text: `${end.by} committed although #${unrepaired.record.step.id} had failed and was not rolled back`,
        })
      }
      // A raw COMMIT keeps what the open blocks have done; those that were undone before it are open no more.
      const open = frames.slice(0, Math.max(0, frames.length - this.#undoneBetween(lastAt, end.at)))
      if (outcome === "committed" && !unrepaired) committed = end.isRaw ? (open.at(-1)?.cells ?? root) : root
      root = new Map(committed)
      frames = []
      ended = new Set()
      unrepaired = undefined
    }

    const unseen = [...this.unseenEnds]
    const finalAt = this.ends.find(({ isFinal }) => isFinal)?.at ?? Number.POSITIVE_INFINITY
    for (const effect of this.#effects) {
      while (unseen[0] && unseen[0].at < effect.at) {
        unseen.shift()
        unrepaired = undefined
      }
      while (remaining[0] && remaining[0].at < effect.at) finish(remaining.shift() as TransactionEnd)
      const around = this.undoing(effect, choices)
      while (frames.some(({ block }, index) => block !== around[index])) ended.add((frames.pop() as Frame).block)
      for (const block of around.slice(frames.length)) {
        if (ended.has(block)) {
          differences.push({
            kind: "order",
            text: `#${effect.record.step.id} ran in the block #${block.id} after a statement of a block around it`,
          })
        }
        frames.push({ block, cells: new Map(frames.at(-1)?.cells ?? root) })
      }
      lastAt = effect.at
      const cells = frames.at(-1)?.cells ?? root
      if (effect.at > finalAt)
        differences.push({ kind: "accepted", text: `#${effect.record.step.id} ran after the end` })
      if (effect.hasFailed) {
        if (frames.length === 0) unrepaired ??= effect
        const complaint = this.#complainOfFailure(effect, cells)
        if (complaint) differences.push(complaint)
      } else {
        const complaint = apply(effect, cells)
        if (complaint) differences.push(complaint)
      }
    }
    for (const end of remaining) finish(end)
    return { cells: committed, differences }
  }

  #undoneBetween(from: number, to: number): number {
    return this.trace.sent.filter(({ at, text }) => at > from && at < to && text.startsWith("ROLLBACK TO")).length
  }

  /** A statement that fails must have its reason in what was there. */
  #complainOfFailure({ record, verb, at }: Effect, cells: Cells): Difference | undefined {
    const { step, error } = record
    if (at > this.trace.killedAt || record.settledAt > this.trace.killedAt || step.do === "fail") return undefined
    const isTaken = step.do === "write" && keysOf(step).some((key) => cells.has(`${step.table}${key}`))
    if (verb === "INSERT" && isTaken) return undefined
    const message = error?.error instanceof Error ? error.error.message : String(error?.error)
    return { kind: "failure", text: `#${step.id} failed without a reason: ${nameOf(error?.error)}: ${message}` }
  }
}

function effectsOf(trace: Trace): Effect[] {
  const records = new Map(trace.statements.map((record) => [record.step.id, record]))
  const found = new Map<number, Effect>()
  for (const { at, text, parameters, hasFailed } of trace.sent) {
    for (const mark of marksIn(text, parameters)) {
      const { id, part } = stepOfMark(mark)
      const record = records.get(id)
      if (!record || record.step.do === "raw") continue
      const { step } = record
      const verb = /ON (CONFLICT|DUPLICATE)/.test(text)
        ? "UPSERT"
        : (text.trim().split(/\s/)[0] as string).toUpperCase()
      const cell = step.do === "write" ? `${step.table}${keysOf(step)[part]}` : undefined
      // Sent again where the first connection was found dead: the last one counts.
      found.set(mark, { at, record, owners: record.owners, mark, verb, cell, hasFailed })
    }
  }
  return [...found.values()].sort((one, other) => one.at - other.at)
}

function apply({ record, mark, verb, cell }: Effect, cells: Map<string, number>): Difference | undefined {
  const { step, result } = record
  if (step.do === "read") {
    const expected = [...cells].filter(([name]) => name.startsWith(step.table))
    if (record.error || result === undefined) return undefined
    const seen = typeof result === "number" ? result : namesOf(step.table, result as Cell[])
    const isRight = typeof seen === "number" ? seen === expected.length : isSame(new Map(seen), new Map(expected))
    if (isRight) return undefined
    return {
      kind: "read",
      text: `#${step.id} read ${typeof seen === "number" ? seen : textOf(seen)} instead of ${textOf(expected)}`,
    }
  }
  if (cell === undefined) return undefined
  if (verb === "INSERT" && cells.has(cell)) {
    cells.set(cell, mark)
    return { kind: "failure", text: `#${step.id} inserted ${cell}, which was there already` }
  }
  if (verb === "INSERT" || verb === "UPSERT" || (verb === "UPDATE" && cells.has(cell))) cells.set(cell, mark)
  else if (verb === "DELETE") cells.delete(cell)
  return undefined
}

function namesOf(table: TableName, rows: readonly Cell[]): [string, number][] {
  return rows.map(({ id, value }) => [`${table}${id}`, Number(value)])
}

export function isSame(one: Cells, other: Cells): boolean {
  return one.size === other.size && [...one].every(([name, value]) => other.get(name) === value)
}

/** Such as "a1 by #3". */
export function textOf(cells: Iterable<readonly [string, number]>): string {
  const list = [...cells]
    .sort(([one], [other]) => one.localeCompare(other))
    .map(([name, value]) => `${name} ${byOf(value)}`)
  return list.length === 0 ? "nothing" : list.join(", ")
}

function byOf(value: number): string {
  const { id } = stepOfMark(value)
  return id < 0 ? "from before" : `by #${id}`
}
