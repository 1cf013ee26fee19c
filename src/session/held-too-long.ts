import { TransactionHeldError } from "../errors"

/** A session whose transaction is watched for being held too long. */
export interface Watched {
  /** ms since its open transaction began; 0 where none is open */
  readonly activeMs: number
  /** ms after which the transaction is reported, above 0 */
  readonly warnAfterMs: number
  /** whether the open transaction has been reported */
  isReported: boolean
  /** false while it waits for its connection */
  readonly isInTransaction: boolean
  readonly isQuiet: boolean
  readonly streams: { readonly count: number } | undefined
  /** @returns who uses it, such as "GET /users/:userId" */
  label(): string
  report(error: TransactionHeldError): void
}

interface Group {
  all(): readonly Watched[]
}

const LONGEST_PERIOD_MS = 1_000

/** One timer for all sessions of the process: one for each would cost every request. */
const groups = new Set<Group>()
let timer: NodeJS.Timeout | undefined
let periodMs = Number.POSITIVE_INFINITY

/**
 * Reports each transaction of the group's sessions once when it is older than its limit, until the group is found empty;
 * called with each session that is added.
 * @param warnAfterMs of that session
 */
export function watchGroup(group: Group, warnAfterMs: number): void {
  groups.add(group)
  const neededMs = Math.max(10, Math.min(LONGEST_PERIOD_MS, warnAfterMs / 4))
  if (timer && neededMs >= periodMs) return
  clearInterval(timer)
  periodMs = neededMs
  timer = setInterval(check, periodMs).unref()
}

function check(): void {
  for (const group of groups) {
    const sessions = group.all()
    if (sessions.length === 0) groups.delete(group)
    for (const session of sessions) checkOne(session)
  }
  if (groups.size > 0) return
  clearInterval(timer)
  timer = undefined
  periodMs = Number.POSITIVE_INFINITY
}

function checkOne(session: Watched): void {
  const { activeMs, warnAfterMs, isReported } = session
  if (isReported || activeMs < warnAfterMs) return
  session.isReported = true
  session.report(new TransactionHeldError(describe(session, Math.round(activeMs))))
}

function describe(session: Watched, ageMs: number): string {
  const label = session.label()
  const limit = `longer than warnAfterMs (${session.warnAfterMs} ms)`
  if (!session.isInTransaction) {
    return `${label} has been waiting for a connection for ${ageMs} ms, ${limit}: end other sessions sooner, or raise poolSize.`
  }
  return (
    `${label} has held its transaction for ${ageMs} ms, ${limit}, and ${stateOf(session)}: ` +
    "commit or roll back before slow work that needs no database, or raise warnAfterMs."
  )
}

function stateOf({ streams, isQuiet }: Watched): string {
  if (streams?.count) return "a result stream is open"
  return isQuiet ? "no statement is running" : "a statement is running or a transaction() block is open"
}
