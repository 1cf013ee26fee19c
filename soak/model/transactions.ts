import { markOf, marksIn } from "./statements"
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
/** What SQLite refuses to prepare. */
const UNPREPARABLE = /^NONSENSE|nothing_of_this_name/

/**
 * Finds out where the transactions of a run ended: where the session sent COMMIT or ROLLBACK in a call that was to end one, and
 * where a statement did. What is in the database decides later whether that is true.
 */
export function transactionsOf(trace: Trace): { ends: TransactionEnd[]; unseen: UnseenEnd[] } {
  const raw = rawEnds(trace)
  const { ends, unseen } = calledEnds(trace, raw)
  return { ends: [...raw, ...ends].sort((one, other) => one.at - other.at), unseen }
}

function rawEnds(trace: Trace): TransactionEnd[] {
  return trace.statements.flatMap(({ step, calledAt, settledAt, error }) => {
    if (step.do !== "raw" || error) return []
    const sent = trace.sent.findLast(({ text }) => marksIn(text, []).includes(markOf(step.id)))
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

function calledEnds(trace: Trace, raw: readonly TransactionEnd[]): { ends: TransactionEnd[]; unseen: UnseenEnd[] } {
  const ends: TransactionEnd[] = []
  const unseen: UnseenEnd[] = []
  const records = inOrder(trace)
  const sentBy = claims(trace, records)
  const add = (record: EndRecord, at: number) => {
    const { step, verb, calledAt, settledAt, error } = record
    const name = error && nameOf(error.error)
    const outcome = verb !== "commit" ? "rolled back" : outcomeOfCommit(name)
    const caller = step ? `#${step.id}` : verb === "commit" ? "the end of run()" : "close()"
    const by = name === undefined ? caller : `${caller} (${name})`
    ends.push({ at, from: calledAt, until: settledAt, outcome, isRaw: false, isFinal: isFinal(record), by })
  }
  for (const [record, { at }] of sentBy) add(record, at)
  for (const record of records) {
    if (sentBy.has(record)) continue
    const { calledAt, settledAt, wasInTransaction } = record
    const at = unseenAt(trace, calledAt, settledAt)
    // One that comes when another one has ended it ends nothing; one that was told of a failure did end it.
    const isOver = [...raw, ...ends].some((other) => other.until > calledAt && other.from < settledAt)
    if (nameOf(record.error?.error) === "TransactionAbortedError" || (wasInTransaction && !isOver)) {
      add(record, isFinal(record) ? settledAt : at)
    } else if (trace.statements.some((one) => one.calledAt < calledAt && one.settledAt > calledAt)) {
      unseen.push({ at, until: settledAt })
    }
  }
  return { ends, unseen: unseen.sort((one, other) => one.at - other.at) }
}

/** Which COMMIT or ROLLBACK each call sent. Calls may overlap; they are served in the order issued, and each sends one at most. */
function claims(trace: Trace, records: readonly EndRecord[]): ReadonlyMap<EndRecord, SentStatement> {
  const found = new Map<EndRecord, SentStatement>()
  const claimed = new Set<SentStatement>()
  const claim = (record: EndRecord, texts: readonly string[]) => {
    const sent = trace.sent.find(
      (one) => one.at > record.calledAt && one.at < record.settledAt && texts.includes(one.text) && !claimed.has(one),
    )
    if (!sent) return
    claimed.add(sent)
    found.set(record, sent)
  }
  const isCommitted = ({ verb, error }: EndRecord) => verb === "commit" && !error
  for (const record of records.filter(isCommitted)) claim(record, ["COMMIT"])
  for (const record of records) {
    if (!isCommitted(record)) claim(record, record.verb === "commit" ? ["COMMIT", "ROLLBACK"] : ["ROLLBACK"])
  }
  return found
}

function isFinal({ step, verb }: EndRecord): boolean {
  return step === undefined || verb === "close"
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
    const first = trace.sent.slice(index + 1).find((next) => !next.text.startsWith("SAVEPOINT"))
    return !(first?.hasFailed && UNPREPARABLE.test(first.text))
  })
  return begin ? begin.at - 0.5 : settledAt
}

/** As the session serves them; the end of `run()` waits for what was issued before. */
function inOrder(trace: Trace): EndRecord[] {
  const orderOf = ({ step, verb, calledAt }: EndRecord) => (step || verb === "close" ? calledAt : Infinity)
  return trace.ends.filter((record) => !isRefused(record)).sort((one, other) => orderOf(one) - orderOf(other))
}

function outcomeOfCommit(errorName: string | undefined): TransactionEnd["outcome"] {
  if (errorName === undefined) return "committed"
  return errorName === "CommitOutcomeUnknownError" ? "unknown" : "rolled back"
}
