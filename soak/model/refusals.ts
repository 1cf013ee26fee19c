import type { Difference } from "./difference"
import { PlannedError } from "./execute"
import { marksIn, stepOfMark } from "./statements"
import { type BlockRecord, type EndRecord, nameOf, type StatementRecord, type Trace } from "./trace"
import { type TransactionEnd, transactionsOf } from "./transactions"

/** What a lost connection may be told by; of a COMMIT under way nothing else than that its outcome is not known. */
const LOSSES = [
  "QueryFailedError",
  "TransactionAbortedError",
  "DatabaseUnavailableError",
  "CommitOutcomeUnknownError",
  "SessionClosedError",
  "SessionStateError",
  "AcquireTimeoutError",
]

/** Looks at each answer by itself: nothing is refused without its reason, nothing is accepted that has to be refused. */
export class Refusals {
  readonly #ends: readonly TransactionEnd[]
  readonly #hasByHand: boolean

  constructor(private readonly trace: Trace) {
    this.#ends = transactionsOf(trace).ends
    this.#hasByHand = trace.blocks.some(({ kind }) => kind === "by hand")
  }

  differences(): Difference[] {
    const { statements, ends, blocks } = this.trace
    return [
      ...statements.flatMap((record) => this.#ofStatement(record)),
      ...ends.flatMap((record) => this.#ofEnd(record)),
      ...blocks.flatMap((block) => this.#ofBlock(block)),
      ...this.#ofRun(),
    ]
  }

  #ofStatement(record: StatementRecord): Difference[] {
    const { step, owners, calledAt, settledAt, error } = record
    if (error) {
      // Whether the database had a reason is seen where it is known what was there.
      if (nameOf(error.error) === "QueryFailedError") return []
      return this.#unlessJustified(`#${step.id}`, record, error.error)
    }
    if (settledAt === Infinity) return []
    if (step.do === "fail") return [{ kind: "failure", text: `#${step.id} did not fail` }]
    if (calledAt > this.trace.closedAt) {
      return [{ kind: "accepted", text: `#${step.id} was accepted after the session had ended` }]
    }
    const isUndone = (block: BlockRecord): boolean =>
      (block.outcome === "rolled back" && block.settledAt < calledAt) ||
      (block.parents.length > 0 && block.parents.every(isUndone))
    if (!owners.every(isUndone)) return []
    return [{ kind: "accepted", text: `#${step.id} was accepted after its block had been rolled back` }]
  }

  #ofEnd(record: EndRecord): Difference[] {
    const { step, verb, owners, error } = record
    const what = step ? `#${step.id}` : "the end of the session"
    const isInBlock = owners.every(({ kind, outcome }) => kind === "block" && outcome !== "released")
    if (error) {
      const name = nameOf(error.error)
      if (verb === "close") return [{ kind: "end", text: `${what}: close() rejected with ${describe(error.error)}` }]
      if (name === "SessionStateError" && (owners.some(({ kind }) => kind !== "session") || this.#hasByHand)) return []
      return this.#unlessJustified(what, record, error.error)
    }
    if (record.settledAt === Infinity || verb === "close" || !isInBlock) return []
    const isOver = owners.every((block) => block.bodyEndedAt < record.settledAt)
    if (isOver || (verb === "rollback" && this.trace.closingAt < record.settledAt)) return []
    return [{ kind: "end", text: `${what}: ${verb}() was accepted inside a block` }]
  }

  #ofBlock(block: BlockRecord): Difference[] {
    const { bodyError, error, kind } = block
    if (kind === "by hand" && (error === undefined || bodyError)) return []
    if (bodyError) {
      if (error?.error === bodyError.error) return []
      return [
        { kind: "end", text: `the block #${block.id} rejected with ${describe(error?.error)}, not with what it threw` },
      ]
    }
    if (error) {
      const record = { owners: [block], calledAt: block.openedAt, settledAt: block.settledAt }
      return this.#unlessJustified(`the block #${block.id}`, record, error.error)
    }
    const failed = this.trace.statements.find(
      ({ owners, error: failure, settledAt }) =>
        nameOf(failure?.error) === "QueryFailedError" &&
        settledAt < block.bodyEndedAt &&
        owners.every((owner) => owner === block),
    )
    const hasEnded = this.#ends.some(({ until, from }) => until > block.openedAt && from < block.settledAt)
    if (!failed || hasEnded || block.settledAt === Infinity) return []
    return [{ kind: "end", text: `the block #${block.id} resolved although #${failed.step.id} had failed in it` }]
  }

  #ofRun(): Difference[] {
    const { thrown, rejected } = this.trace
    if (!thrown || rejected?.error === thrown.error) return []
    return [{ kind: "end", text: `run() ended with ${describe(rejected?.error)}, not with what was thrown in it` }]
  }

  #unlessJustified(
    what: string,
    record: { owners: readonly BlockRecord[]; calledAt: number; settledAt: number },
    error: unknown,
  ): Difference[] {
    if (error instanceof PlannedError || this.#isLost(error) || this.#isJustified(record, nameOf(error))) return []
    return [{ kind: "refused", text: `${what} was refused without a reason: ${describe(error)}` }]
  }

  #isJustified(
    { owners, calledAt, settledAt }: { owners: readonly BlockRecord[]; calledAt: number; settledAt: number },
    name: string,
  ): boolean {
    switch (name) {
      case "SessionClosedError":
        return this.trace.closingAt < settledAt
      case "TransactionAbortedError":
        return (
          this.trace.isEntangled || this.#isAborted(owners, calledAt, settledAt) || this.#isCutOff(owners, settledAt)
        )
      default:
        // Who waits for a block that nobody ends is told so.
        return (this.#hasByHand || this.#isCutOff(owners, settledAt)) && /Timeout|State|Aborted/.test(name)
    }
  }

  /** Whether a block around was undone or about to be, or a statement had failed in one of them or in the transaction. */
  #isAborted(owners: readonly BlockRecord[], calledAt: number, settledAt: number): boolean {
    const around = new Set<BlockRecord>()
    const add = (block: BlockRecord) => {
      around.add(block)
      block.parents.forEach(add)
    }
    owners.forEach(add)
    const isUndone = [...around].some(
      ({ outcome, bodyEndedAt, settledAt: undoneAt, kind }) =>
        outcome === "rolled back" && (bodyEndedAt < settledAt || undoneAt < settledAt || kind === "by hand"),
    )
    if (isUndone || this.trace.closingAt < settledAt) return true
    return this.trace.statements.some((failed) => {
      const failedAt = this.#failedAt(failed)
      if (failedAt === undefined || failedAt > settledAt) return false
      // One that was rolled back with a block of its own does not count any more.
      const isRepaired = failed.owners.every((owner) => !reaches(owner, around, calledAt))
      const isOver = this.#ends.some(
        ({ at, until }) => at > failed.calledAt && until < calledAt && at > failed.settledAt,
      )
      return !isRepaired && !isOver
    })
  }

  /** Whether the transaction ended under a block that is still open: what is kept of it, its caller has to be told. */
  #isCutOff(owners: readonly BlockRecord[], settledAt: number): boolean {
    const isCutOff = (block: BlockRecord): boolean =>
      (block.kind !== "session" &&
        this.#ends.some((end) => end.isRaw && end.at > block.openedAt && end.at < settledAt)) ||
      block.parents.some(isCutOff)
    return owners.some(isCutOff)
  }

  /** When the statement was sent that failed; its caller may hear of it later than others that are refused for it. */
  #failedAt({ step, error }: StatementRecord): number | undefined {
    const sent = this.trace.sent.find(
      ({ text, parameters, hasFailed }) =>
        hasFailed && marksIn(text, parameters).some((mark) => stepOfMark(mark).id === step.id),
    )
    return sent?.at ?? (nameOf(error?.error) === "QueryFailedError" ? 0 : undefined)
  }

  #isLost(error: unknown): boolean {
    return this.trace.killedAt < Infinity && LOSSES.includes(nameOf(error))
  }
}

/** Whether a failure in `owner` was still there for the blocks `around` at that time. */
function reaches(owner: BlockRecord, around: ReadonlySet<BlockRecord>, at: number): boolean {
  for (let block: BlockRecord | undefined = owner; block; block = block.parents[0]) {
    if (around.has(block)) return true
    if (block.outcome === "rolled back" && block.settledAt < at) return false
  }
  return false
}

function describe(error: unknown): string {
  return error instanceof Error ? `${nameOf(error)}: ${error.message.slice(0, 160)}` : `nothing (${String(error)})`
}
