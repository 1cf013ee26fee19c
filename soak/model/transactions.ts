import { type EndRecord, nameOf, type SentStatement, type Trace } from "./trace"

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

/** Called while a transaction was only about to begin, or its reads needed no begin: nothing that was sent tells of the end. */
export interface UnseenEnd {
  readonly at: number
  readonly until: number
}

const BEGIN = /^(BEGIN|START TRANSACTION)/

/**
 * Finds out where the transactions of a run ended: where the session sent COMMIT or ROLLBACK in a call that was to end one, and
 * where a statement did. What is in the database decides later whether that is true.
 */
export function transactionsOf(trace: Trace): { ends: TransactionEnd[]; unseen: UnseenEnd[] } {
  const raw = rawEnds(trace)
  const { ends, unseen } = calledEnds(trace, new Set(raw.map(({ at }) => at)))
  return { ends: [...raw, ...ends].sort((one, other) => one.at - other.at), unseen }
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

function calledEnds(trace: Trace, raw: ReadonlySet<number>): { ends: TransactionEnd[]; unseen: UnseenEnd[] } {
  const ends: TransactionEnd[] = []
  const unseen: UnseenEnd[] = []
  const sentBy = claims(trace, raw)
  for (const record of bySettling(trace)) {
    const { step, verb, calledAt, settledAt, error, wasInTransaction } = record
    const name = error && nameOf(error.error)
    if (isRefused(record)) continue
    const sent = sentBy.get(record)
    // One that comes when another one has ended it ends nothing.
    if (!sent && (!wasInTransaction || ends.some((other) => other.until > calledAt))) {
      const isAwaited = trace.statements.some((one) => one.calledAt < calledAt && one.settledAt > calledAt)
      if (isAwaited) unseen.push({ at: unseenAt(trace, calledAt, settledAt), until: settledAt })
      continue
    }
    const outcome = verb !== "commit" ? "rolled back" : outcomeOfCommit(name)
    const isFinal = step === undefined || verb === "close"
    const caller = step ? `#${step.id}` : verb === "commit" ? "the end of run()" : "close()"
    const by = name === undefined ? caller : `${caller} (${name})`
    const at = sent?.at ?? (isFinal ? settledAt : unseenAt(trace, calledAt, settledAt))
    ends.push({ at, from: calledAt, until: settledAt, outcome, isRaw: false, isFinal, by })
  }
  return { ends, unseen: unseen.sort((one, other) => one.at - other.at) }
}

/** Which COMMIT or ROLLBACK each call sent. Calls may overlap; they are served one after another. @param raw where statements were such an end */
function claims(trace: Trace, raw: ReadonlySet<number>): ReadonlyMap<EndRecord, SentStatement> {
  const found = new Map<EndRecord, SentStatement>()
  const claimed = new Set<SentStatement>()
  const claim = (record: EndRecord, texts: readonly string[]) => {
    const sent = trace.sent.find(
      (one) =>
        one.at > record.calledAt &&
        one.at < record.settledAt &&
        texts.includes(one.text) &&
        !claimed.has(one) &&
        !raw.has(one.at),
    )
    if (!sent) return
    claimed.add(sent)
    found.set(record, sent)
  }
  const records = bySettling(trace).filter((record) => !isRefused(record))
  const isCommitted = ({ verb, error }: EndRecord) => verb === "commit" && !error
  for (const record of records.filter(isCommitted)) claim(record, ["COMMIT"])
  for (const record of records) {
    if (!isCommitted(record)) claim(record, record.verb === "commit" ? ["COMMIT", "ROLLBACK"] : ["ROLLBACK"])
  }
  return found
}

/** A call that was refused ends nothing. */
function isRefused({ error }: EndRecord): boolean {
  const name = error && nameOf(error.error)
  return name === "SessionStateError" || name === "SessionClosedError"
}

/**
 * What began meanwhile is the next transaction: the end of this one would have been sent. On SQLite a statement that cannot be
 * prepared is logged with its begin, which has not been sent.
 */
function unseenAt(trace: Trace, calledAt: number, settledAt: number): number {
  const begin = trace.sent.find(({ at, text }, index) => {
    if (at < calledAt || at > settledAt || !BEGIN.test(text)) return false
    return trace.sent.slice(index + 1).find((next) => !next.text.startsWith("SAVEPOINT"))?.hasFailed !== true
  })
  return begin ? begin.at - 0.5 : settledAt
}

function bySettling(trace: Trace): EndRecord[] {
  return [...trace.ends].sort((one, other) => one.settledAt - other.settledAt)
}

function outcomeOfCommit(errorName: string | undefined): TransactionEnd["outcome"] {
  if (errorName === undefined) return "committed"
  return errorName === "CommitOutcomeUnknownError" ? "unknown" : "rolled back"
}
