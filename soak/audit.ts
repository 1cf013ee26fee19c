import { ACCOUNTS, type BankState, DECOY, OPENING_BALANCE, POOL_SIZE, TOTAL } from "./bank"
import { type SoakDatabase, withConnection } from "./database"
import type { RequestKind } from "./plan"
import type { RunRecord, TransferRecord } from "./record"

/** What the books say at the end, against what the clients were told. */
export interface Books {
  readonly acknowledged: number
  readonly refused: number
  readonly unknown: number
  readonly unknownKept: number
  readonly ledgerRows: number
  /** answered 2xx, and not in the ledger */
  readonly lost: string[]
  /** in the ledger twice, acknowledged twice, or moved money more or less often than the ledger says */
  readonly doubled: string[]
  /** answered 4xx or 503, or failed by plan, and in the ledger; or a row that nobody asked for */
  readonly kept: string[]
}

/** Kinds of which nothing may be in the ledger, whatever was answered. */
const NEVER_KEPT: readonly RequestKind[] = [
  "throw",
  "refuse",
  "status",
  "swallow",
  "forget",
  "deferred",
  "overdraft",
  "unknown",
  "malformed",
]

interface LedgerRow {
  readonly transfer_id: string
  readonly from_id: number
  readonly to_id: number
  readonly amount: number
}

/** Reads accounts and ledger over a connection of its own. */
export async function auditBooks(database: SoakDatabase, record: RunRecord): Promise<Books> {
  const { accounts, ledger } = await withConnection(database.open, async (connection) => ({
    accounts: await connection.query("SELECT id, balance FROM account"),
    ledger: (await connection.query(
      "SELECT transfer_id, from_id, to_id, amount FROM ledger",
    )) as unknown as LedgerRow[],
  }))
  const rows = new Map<string, LedgerRow[]>()
  for (const row of ledger) rows.set(row.transfer_id, [...(rows.get(row.transfer_id) ?? []), row])

  const books = {
    acknowledged: 0,
    refused: 0,
    unknown: 0,
    unknownKept: 0,
    ledgerRows: ledger.length,
    lost: [] as string[],
    doubled: [] as string[],
    kept: [] as string[],
  }
  for (const transfer of record.transfers.values()) judge(transfer, rows.get(transfer.order.id) ?? [], books)
  for (const id of rows.keys()) {
    if (!record.transfers.has(id)) books.kept.push(`${id} was ${id.startsWith(DECOY) ? "rolled back" : "never sent"}`)
  }
  books.doubled.push(...wrongBalances(accounts, ledger))
  return books
}

type OpenBooks = { -readonly [Name in keyof Books]: Books[Name] }

function judge({ order, kind, answers }: TransferRecord, rows: readonly LedgerRow[], books: OpenBooks): void {
  const count = (which: string) => answers.filter((answer) => answer === which).length
  const acknowledged = count("acknowledged")
  const isUnknown = acknowledged === 0 && count("unknown") > 0
  const what = `${order.id} (${kind}; ${answers.join(", ")})`
  if (acknowledged > 0) books.acknowledged++
  else if (isUnknown) books.unknown++
  else books.refused++
  if (isUnknown && rows.length > 0) books.unknownKept++

  if (rows.length === 0 && (acknowledged > 0 || count("exists") > 0)) books.lost.push(what)
  if (rows.length > 1 || acknowledged > 1) books.doubled.push(what)
  const isRefused = acknowledged === 0 && !isUnknown
  if (rows.length > 0 && (isRefused || NEVER_KEPT.includes(kind))) books.kept.push(what)
  const [row] = rows
  if (row && (row.from_id !== order.from || row.to_id !== order.to || row.amount !== order.amount)) {
    books.kept.push(`${what} has other figures`)
  }
}

function wrongBalances(accounts: readonly Record<string, unknown>[], ledger: readonly LedgerRow[]): string[] {
  const expected = new Map<number, number>()
  for (let id = 1; id <= ACCOUNTS; id++) expected.set(id, OPENING_BALANCE)
  for (const { from_id, to_id, amount } of ledger) {
    expected.set(from_id, (expected.get(from_id) ?? 0) - amount)
    expected.set(to_id, (expected.get(to_id) ?? 0) + amount)
  }
  const wrong: string[] = []
  let sum = 0
  for (const { id, balance } of accounts) {
    sum += Number(balance)
    if (Number(balance) !== expected.get(Number(id))) {
      wrong.push(`account ${id} has ${balance}, by the ledger ${expected.get(Number(id))}`)
    }
  }
  if (sum !== TOTAL) wrong.push(`all accounts hold ${sum} in place of ${TOTAL}`)
  return wrong
}

/** @returns what was not given back, in words; empty where nothing is */
export async function auditResources(
  database: SoakDatabase,
  state: BankState,
  acknowledged: number,
  ledgerRows: number,
): Promise<string[]> {
  const leaked: string[] = []
  for (const [name, value] of Object.entries(state.stats)) if (value !== 0) leaked.push(`${value} sessions ${name}`)
  if (state.pool.size > state.pool.max) leaked.push(`a pool of ${state.pool.size}, at most ${state.pool.max}`)
  const idle = await database.idleInTransaction().catch((error: unknown) => String(error))
  if (idle !== 0) leaked.push(`connections idle in a transaction: ${idle}`)
  if (state.wrongHooks !== 0) leaked.push(`${state.wrongHooks} afterCommit functions of rolled-back work ran`)
  if (state.hooks < acknowledged || state.hooks > ledgerRows) {
    leaked.push(`${state.hooks} afterCommit functions ran, for ${acknowledged} to ${ledgerRows} transfers`)
  }
  return leaked
}

/**
 * @param unanswered how many COMMITs of each transfer were never answered, as the wire tells
 * @returns each 500 that no error of the application explains, and each "unknown" that is none, in words
 */
export function auditUnknowns(state: BankState, record: RunRecord, unanswered: ReadonlyMap<string, number>): string[] {
  const reported = countEach(state.unknowns)
  const wrong: string[] = []
  for (const [id, times] of countEach(record.unexplained)) {
    const told = reported.get(id) ?? 0
    if (times > told) wrong.push(`${id}: answered 500 ${times} times, of which ${told} with an unknown outcome`)
  }
  for (const [id, times] of reported) {
    const lost = unanswered.get(id) ?? 0
    if (times > lost) wrong.push(`${id}: called unknown ${times} times; ${lost} of its COMMITs had no answer`)
  }
  const known = state.completed.committed ?? 0
  if (known !== state.hooks) wrong.push(`${known} completions as committed, and ${state.hooks} afterCommit functions`)
  return wrong
}

function countEach(ids: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}

/** As many sessions as the pool has places must be able to hold a connection at once. */
export async function auditPool(get: (path: string) => Promise<unknown>): Promise<string[]> {
  const together = Array.from({ length: POOL_SIZE }, () => get("/together"))
  const answers = await Promise.allSettled(together)
  const isWhole = answers.every(({ status }) => status === "fulfilled")
  return isWhole ? [] : [`places of the pool are gone: no ${POOL_SIZE} sessions can hold a connection at once`]
}
