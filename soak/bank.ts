/** What the application, the clients and the audit agree on. */
export const ACCOUNTS = 100
export const OPENING_BALANCE = 1_000
export const TOTAL = ACCOUNTS * OPENING_BALANCE

/** Connections of the application; small, so that they run out. */
export const POOL_SIZE = 8
export const ACQUIRE_TIMEOUT_MS = 1_500
export const STATEMENT_TIMEOUT_MS = 1_000
/** Short, so that silence is found while it lasts. */
export const ANSWER_TIMEOUT_MS = 1_500

/** What the handler of a transfer does besides, as the request asks for. */
export type Deed =
  /** nothing */
  | "none"
  /** writes all rows at once with `Promise.all` */
  | "parallel"
  /** writes a row in a block that then fails and is caught */
  | "savepoint"
  /** throws an error of its own after the writes: 500 */
  | "throw"
  /** throws an `HttpError` after the writes: 422 */
  | "refuse"
  /** sets a status without throwing, after the writes: 402 */
  | "status"
  /** lets a statement fail and says nothing: 500, as the transaction is aborted */
  | "swallow"
  /** throws while a write that nobody awaits is under way: 500 */
  | "forget"
  /** breaks a constraint that is looked at in the COMMIT: 409 */
  | "deferred"

/** The body of `POST /transfers`. */
export interface TransferOrder {
  /** given by the client; unique in the ledger */
  readonly id: string
  readonly from: number
  readonly to: number
  readonly amount: number
  /** whether the rows are locked in the order of their numbers */
  readonly locksInOrder: boolean
  /** ms between the reads and the writes */
  readonly pauseMs: number
  readonly deed: Deed
}

/** The answer of `GET /state`. */
export interface BankState {
  readonly stats: { readonly open: number; readonly active: number; readonly waiting: number }
  readonly pool: { readonly size: number; readonly max: number }
  readonly committed: number
  readonly rolledBack: number
  readonly failed: number
  /** `afterCommit` functions of transfers that have run */
  readonly hooks: number
  /** `afterCommit` functions that ran although their savepoint was rolled back */
  readonly wrongHooks: number
  /** `afterCompletion` functions of transfers that have run, by outcome */
  readonly completed: Readonly<Record<string, number>>
  /** ids of transfers whose request failed with `CommitOutcomeUnknownError`, once for each time */
  readonly unknowns: readonly string[]
  /** how often an action was run again after a deadlock or a serialization failure */
  readonly repeated: number
  /** what the application was told of, by name and code */
  readonly reported: Readonly<Record<string, number>>
  /** what the errors were that it was told of and that nothing planned explains */
  readonly unforeseen: readonly string[]
}

/** Stands for the id where a request moves no money. */
export const NO_TRANSFER = "no transfer"

/** Ids of rows that must never be found. */
export const DECOY = "decoy-"
