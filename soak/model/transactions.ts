import { type EndRecord, nameOf, type Trace } from "./trace"

/** The end of one transaction. */
export interface TransactionEnd {
  readonly at: number
  /** who brought it about, from the call to its answer: what happens meanwhile may be before or after the end */
  readonly from: number
  readonly until: number
  readonly outcome: "committed" | "rolled back" | "unknown"
  /** by a statement and not by the session */
  readonly isRaw: boolean
  /** by the end of the session: nothing may run after it */
  readonly isFinal: boolean
  /** such as "#4"; for messages */
  readonly by: string
}

/** One that nothing was sent for. */
export interface UnseenEnd {
  readonly at: number
  readonly until: number
}

const BEGIN = /^(BEGIN|START TRANSACTION)/

/**
 * Finds out where the transactions of a run ended: where the session sent COMMIT or ROLLBACK in a call that was to end one, and
 * where a statement did. What is in the database decides later whether that is true.
 */
export function transactionsOf(trace: Trace): TransactionEnd[] {
  return [...rawEnds(trace), ...calledEnds(trace)].sort((one, other) => one.at - other.at)
}

function rawEnds(trace: Trace): TransactionEnd[] {
  return trace.statements.flatMap(({ step, calledAt, settledAt, error }) => {
    if (step.do !== "raw" || error) return []
    const text = step.verb === "TRUNCATE" ? /^TRUNCATE/ : new RegExp(`^${step.verb}$`)
    const sent = trace.sent.filter((one) => one.at > calledAt && one.at < settledAt && text.test(one.text)).at(-1)
    const outcome = step.verb === "ROLLBACK" ? "rolled back" : "committed"
    return [
      {
        at: sent?.at ?? settledAt,
        from: calledAt,
        until: settledAt,
        outcome,
        isRaw: true,
        isFinal: false,
        by: `#${step.id}`,
      } as const,
    ]
  })
}

function calledEnds(trace: Trace): TransactionEnd[] {
  const claimed = new Set<number>()
  const found: TransactionEnd[] = []
  for (const { step, verb, calledAt, settledAt, error, wasInTransaction } of bySettling(trace)) {
    const name = error && nameOf(error.error)
    if (name === "SessionStateError" || name === "SessionClosedError") continue
    const texts = verb !== "commit" ? ["ROLLBACK"] : error ? ["COMMIT", "ROLLBACK"] : ["COMMIT"]
    const sent = trace.sent.find(
      ({ at, text }) => at > calledAt && at < settledAt && texts.includes(text) && !claimed.has(at),
    )
    if (sent) claimed.add(sent.at)
    // One that comes when another one has ended it ends nothing.
    else if (!wasInTransaction || found.some((other) => other.until > calledAt)) continue
    const outcome = verb !== "commit" ? "rolled back" : outcomeOfCommit(name)
    const isFinal = step === undefined || verb === "close"
    const caller = step ? `#${step.id}` : verb === "commit" ? "the end of run()" : "close()"
    const by = name === undefined ? caller : `${caller} (${name})`
    found.push({
      at: sent?.at ?? (isFinal ? settledAt : unseenAt(trace, calledAt, settledAt, 0)),
      from: calledAt,
      until: settledAt,
      outcome,
      isRaw: false,
      isFinal,
      by,
    })
  }
  return found
}

/** Calls while a transaction was only about to begin, or its reads needed no begin: nothing that was sent tells of these ends. */
export function unseenEndsOf(trace: Trace): readonly UnseenEnd[] {
  return trace.ends.flatMap(({ calledAt, settledAt, wasInTransaction }) => {
    const isSent = trace.sent.some(
      ({ at, text }) => at > calledAt && at < settledAt && /^(COMMIT|ROLLBACK)$/.test(text),
    )
    const isAwaited = trace.statements.some((one) => one.calledAt < calledAt && one.settledAt > calledAt)
    if (wasInTransaction || isSent || !isAwaited) return []
    return [{ at: unseenAt(trace, calledAt, settledAt, 1), until: settledAt }]
  })
}

/** @param own how many that began meanwhile are the transaction itself; one more is the next one */
function unseenAt(trace: Trace, calledAt: number, settledAt: number, own: number): number {
  const begin = trace.sent.filter(({ at, text }) => at > calledAt && at < settledAt && BEGIN.test(text))[own]
  return begin ? begin.at - 0.5 : settledAt
}

function bySettling(trace: Trace): EndRecord[] {
  return [...trace.ends].sort((one, other) => one.settledAt - other.settledAt)
}

function outcomeOfCommit(errorName: string | undefined): TransactionEnd["outcome"] {
  if (errorName === undefined) return "committed"
  return errorName === "CommitOutcomeUnknownError" ? "unknown" : "rolled back"
}
