import type { EndStep, FailStep, HookStep, RawEndStep, ReadStep, WriteStep } from "./program"

/** The session itself, a `transaction()` block, or one that was begun by hand. Times are numbers of one common order. */
export class BlockRecord {
  settledAt = Number.POSITIVE_INFINITY
  /** when its function had resolved or rejected, and the end had not begun yet */
  bodyEndedAt = Number.POSITIVE_INFINITY
  outcome: "released" | "rolled back" | undefined
  /** what its function rejected with */
  bodyError: { readonly error: unknown } | undefined
  /** what it rejected with itself */
  error: { readonly error: unknown } | undefined

  constructor(
    readonly id: number,
    readonly kind: "session" | "block" | "by hand",
    /** more than one where code ran in parallel, and either may be right */
    readonly parents: readonly BlockRecord[],
    readonly openedAt: number,
  ) {}

  /** @returns whether `other` is this one or, by any way, around it */
  isWithin(other: BlockRecord): boolean {
    return this === other || this.parents.some((parent) => parent.isWithin(other))
  }
}

interface Called {
  /** the blocks that it may belong to; one, where nothing ran in parallel */
  owners: readonly BlockRecord[]
  readonly calledAt: number
}

export interface Settled {
  settledAt: number
  error?: { readonly error: unknown } | undefined
}

export interface StatementRecord extends Called, Settled {
  readonly step: WriteStep | ReadStep | FailStep | RawEndStep
  result?: unknown
}

export interface EndRecord extends Called, Settled {
  /** undefined: the end of `run()` */
  readonly step: EndStep | undefined
  readonly verb: EndStep["verb"]
  readonly wasInTransaction: boolean
}

export interface HookRecord extends Called {
  readonly step: HookStep
  readonly isRefused: boolean
  /** what each call was given */
  readonly calls: unknown[]
}

/** What the session sent, by TypeORM's logger. */
export interface SentStatement {
  readonly at: number
  readonly text: string
  readonly parameters: readonly unknown[]
  hasFailed: boolean
}

/** What happened in one run of a program. */
export class Trace {
  #clock = 0
  readonly session = new BlockRecord(0, "session", [], 0)
  readonly blocks: BlockRecord[] = []
  readonly statements: StatementRecord[] = []
  readonly ends: EndRecord[] = []
  readonly hooks: HookRecord[] = []
  readonly sent: SentStatement[] = []
  /** when the first connection was killed */
  killedAt = Number.POSITIVE_INFINITY
  /** when the session was asked to end, by whomever */
  closingAt = Number.POSITIVE_INFINITY
  /** when it had ended */
  closedAt = Number.POSITIVE_INFINITY
  /** what was thrown out of the program, and what `run()` rejected with */
  thrown: { readonly error: unknown } | undefined
  rejected: { readonly error: unknown } | undefined
  hasHung = false
  /** whether blocks begun by hand on one variable overlapped: an end is then that of the innermost one, whoever began it */
  isEntangled = false

  now(): number {
    return ++this.#clock
  }

  noteSent(text: string, parameters: readonly unknown[] = []): void {
    this.sent.push({ at: this.now(), text, parameters, hasFailed: false })
  }

  noteFailed(text: string, parameters: readonly unknown[] = []): void {
    const last = this.sent.findLast(
      (one) =>
        !one.hasFailed && one.text === text && one.parameters.every((value, index) => value === parameters[index]),
    )
    if (last) last.hasFailed = true
  }
}

export function nameOf(error: unknown): string {
  return error instanceof Error ? error.constructor.name : typeof error
}
