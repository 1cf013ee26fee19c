import { TransactionHeldError } from "../errors"

/** A transaction that is watched for being held too long. */
export interface Watched {
  /** ms on the clock of `performance.now()` */
  readonly startedAt: number
  /** ms after which it is reported, above 0 */
  readonly warnAfterMs: number
  readonly describe: () => string
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
    transaction.report(
      new TransactionHeldError(
        `${transaction.describe()} has held its transaction for ${Math.round(ageMs)} ms, longer than warnAfterMs ` +
          `(${transaction.warnAfterMs} ms): commit or roll back before slow work that needs no database, or raise warnAfterMs.`,
      ),
    )
  }
  if (watched.size > 0) return
  clearInterval(timer)
  timer = undefined
  periodMs = Number.POSITIVE_INFINITY
}
