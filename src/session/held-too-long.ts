import { TransactionHeldError } from "../errors"

/** What is told of the session's state when the transaction is reported. */
export interface WatchedUnit {
  /** false while it waits for its connection */
  readonly isInTransaction: boolean
  readonly isQuiet: boolean
  readonly streams: { readonly count: number }
}

/** A transaction that is watched for being held too long. */
export interface Watched {
  /** ms on the clock of `performance.now()` */
  readonly startedAt: number
  /** ms after which it is reported, above 0 */
  readonly warnAfterMs: number
  /** who uses it, such as "GET /users/:userId" */
  readonly label: () => string
  readonly unit: WatchedUnit
  readonly report: (error: TransactionHeldError) => void
}

const LONGEST_PERIOD_MS = 1_000

/** One timer for all transactions of the process: one for each would cost every request. */
const watched = new Set<Watched>()
let timer: NodeJS.Timeout | undefined
let periodMs = Number.POSITIVE_INFINITY

/** Reports the transaction once when it is older than its limit; `stopWatching()` ends that. */
export function watchTransaction(transaction: Watched): void {
  watched.add(transaction)
  const neededMs = Math.max(10, Math.min(LONGEST_PERIOD_MS, transaction.warnAfterMs / 4))
  if (timer && neededMs >= periodMs) return
  clearInterval(timer)
  periodMs = neededMs
  timer = setInterval(check, periodMs).unref()
}

export function stopWatching(transaction: Watched): void {
  watched.delete(transaction)
}

function check(): void {
  const now = performance.now()
  for (const transaction of watched) {
    const ageMs = now - transaction.startedAt
    if (ageMs < transaction.warnAfterMs) continue
    watched.delete(transaction)
    transaction.report(new TransactionHeldError(describe(transaction, Math.round(ageMs))))
  }
  if (watched.size > 0) return
  clearInterval(timer)
  timer = undefined
  periodMs = Number.POSITIVE_INFINITY
}

function describe({ label, warnAfterMs, unit }: Watched, ageMs: number): string {
  const limit = `longer than warnAfterMs (${warnAfterMs} ms)`
  if (!unit.isInTransaction) {
    return `${label()} has been waiting for a connection for ${ageMs} ms, ${limit}: end other sessions sooner, or raise poolSize.`
  }
  return (
    `${label()} has held its transaction for ${ageMs} ms, ${limit}, and ${stateOf(unit)}: ` +
    "commit or roll back before slow work that needs no database, or raise warnAfterMs."
  )
}

function stateOf(unit: WatchedUnit): string {
  if (unit.streams.count > 0) return "a result stream is open"
  return unit.isQuiet ? "no statement is running" : "a statement is running or a transaction() block is open"
}
