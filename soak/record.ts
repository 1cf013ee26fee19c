import { NO_TRANSFER, TOTAL, type TransferOrder } from "./bank"
import type { Answer } from "./http-client"
import type { PlannedRequest, RequestKind } from "./plan"

/** All that was answered to requests with one id. */
export interface TransferRecord {
  readonly order: TransferOrder
  readonly kind: RequestKind
  readonly answers: AnswerKind[]
}

/**
 * `exists`: refused, because a transfer with this id is there; `unknown`: the client went away, or was answered with a 500 that
 * the handler did not ask for. A 503 says that nothing was done.
 */
export type AnswerKind = "acknowledged" | "refused" | "exists" | "unknown"

/** Always allowed: the database may be overloaded, locked or away. */
const BUSY = 503

/** Accounts run empty by and by, so any transfer may be refused with 400. */
const EXPECTED: Readonly<Record<RequestKind, readonly number[]>> = {
  none: [200, 400],
  parallel: [200, 400],
  savepoint: [200, 400],
  throw: [500, 400],
  refuse: [422, 400],
  status: [402, 400],
  swallow: [500, 400],
  forget: [500, 400],
  deferred: [409, 400],
  overdraft: [400],
  unknown: [404],
  malformed: [400],
  duplicate: [409, 400],
  total: [200],
  slow: [200],
}

const SAMPLES = 20

/** Words of the database that no answer may hold. */
const TELLS = /\b(SELECT|INSERT|UPDATE|COMMIT|constraint|ledger)\b|\.js:\d+|node_modules/i

/** What the clients saw. */
export class RunRecord {
  readonly transfers = new Map<string, TransferRecord>()
  readonly faults: Record<string, number> = {}
  readonly statuses: Record<string, number> = {}
  readonly unexpected: string[] = []
  unexpectedCount = 0
  reads = 0
  wrongReads = 0
  /** ids of transfers that were answered with a 500 which only a COMMIT without an answer excuses; one for each answer */
  readonly unexplained: string[] = []

  countFault(kind: string, times = 1): void {
    this.faults[kind] = (this.faults[kind] ?? 0) + times
  }

  complain(text: string): void {
    this.unexpectedCount++
    if (this.unexpected.length < SAMPLES) this.unexpected.push(text)
  }

  /** Looks at one answer; it is kept where it may have moved money. */
  note({ kind }: PlannedRequest, order: TransferOrder | undefined, answer: Answer, isAskedAgain = false): void {
    this.#check(kind, order, answer, isAskedAgain)
    if (kind === "total") this.#noteTotal(answer)
    if (order === undefined) return
    const known = this.transfers.get(order.id)
    const record = known ?? { order, kind, answers: [] }
    if (!known) this.transfers.set(order.id, record)
    record.answers.push(answerKind(record.kind, answer))
  }

  #check(kind: RequestKind, order: TransferOrder | undefined, answer: Answer, isAskedAgain: boolean): void {
    const what = `${kind} ${order?.id ?? ""}`.trim()
    const key = "aborted" in answer ? "gone" : "failure" in answer ? "no answer" : String(answer.status)
    this.statuses[key] = (this.statuses[key] ?? 0) + 1
    if ("aborted" in answer) this.countFault("client goes away")
    if ("failure" in answer) this.complain(`${what}: ${answer.failure}`)
    if (!("status" in answer)) return
    const { status, text, hasRetryAfter } = answer
    if (status === BUSY && !hasRetryAfter) this.complain(`${what}: 503 without Retry-After`)
    if (status >= 400 && TELLS.test(text)) this.complain(`${what}: ${status} tells of the database: ${text}`)
    // The COMMIT of a read that is raw SQL is awaited, too.
    if (status === 500 && !EXPECTED[kind].includes(500)) {
      this.unexplained.push(order?.id ?? NO_TRANSFER)
      return
    }
    const isExpected = status === BUSY || EXPECTED[kind].includes(status) || (isAskedAgain && status === 409)
    if (!isExpected) this.complain(`${what}: answered ${status} ${text.slice(0, 200)}`)
  }

  #noteTotal(answer: Answer): void {
    if (!("status" in answer) || answer.status !== 200) return
    this.reads++
    const { total } = JSON.parse(answer.text) as { total: unknown }
    if (Number(total) === TOTAL) return
    this.wrongReads++
    this.complain(`total: ${answer.text} in place of ${TOTAL}`)
  }
}

function answerKind(kind: RequestKind, answer: Answer): AnswerKind {
  if (!("status" in answer)) return "unknown"
  if (answer.status >= 500)
    return answer.status === BUSY || EXPECTED[kind].includes(answer.status) ? "refused" : "unknown"
  if (answer.status < 400) return "acknowledged"
  return answer.status === 409 && kind !== "deferred" ? "exists" : "refused"
}
