import {
  type SessionEvent,
  sessionClosed,
  sessionOpened,
  statementRefused,
  type TransactionEndedEvent,
  type TransactionEvent,
  transactionBegun,
  transactionCommitted,
  transactionFailed,
  transactionRolledBack,
} from "../diagnostics/channels"
import type { Outcome } from "../engine/connection"
import type { Tally } from "./tally"

/** What a record tells of a transaction. */
export interface RecordedTransaction {
  readonly id: number
  /** ms on the clock of `performance.now()` */
  readonly startedAt: number
  readonly connectedAt: number
  readonly wrote: boolean
  readonly outcome?: Outcome | undefined
}

let sessions = 0
let transactions = 0

export function nextTransactionId(): number {
  return ++transactions
}

/** Counts what becomes of one session's transactions, and tells those who have subscribed. */
export class SessionRecord {
  readonly #sessionId = ++sessions
  readonly #openedAt = performance.now()

  constructor(
    private readonly user: { label(): string },
    private readonly tally: Tally,
  ) {
    if (sessionOpened.hasSubscribers) sessionOpened.publish(Object.freeze(this.#session()))
  }

  closed(): void {
    if (!sessionClosed.hasSubscribers) return
    sessionClosed.publish(Object.freeze({ ...this.#session(), durationMs: performance.now() - this.#openedAt }))
  }

  begun(transaction: RecordedTransaction): void {
    if (transactionBegun.hasSubscribers) transactionBegun.publish(Object.freeze(this.#transaction(transaction)))
  }

  committed(transaction: RecordedTransaction): void {
    this.tally.committed++
    if (transactionCommitted.hasSubscribers) transactionCommitted.publish(Object.freeze(this.#ended(transaction)))
  }

  rolledBack(transaction: RecordedTransaction): void {
    this.tally.rolledBack++
    if (transactionRolledBack.hasSubscribers) transactionRolledBack.publish(Object.freeze(this.#ended(transaction)))
  }

  /** The commit was refused, or the connection was lost. */
  failed(transaction: RecordedTransaction, error: unknown): void {
    this.tally.failed++
    if (!transactionFailed.hasSubscribers) return
    const errorName = error instanceof Error ? error.name : typeof error
    transactionFailed.publish(
      Object.freeze({ ...this.#ended(transaction), errorName, outcome: transaction.outcome ?? "rolled back" }),
    )
  }

  /** A statement came after the end. */
  refused(): void {
    this.tally.refused++
    if (!statementRefused.hasSubscribers) return
    statementRefused.publish(Object.freeze({ ...this.#session(), count: this.tally.refused }))
  }

  #session(): SessionEvent {
    return { sessionId: this.#sessionId, label: this.user.label() }
  }

  #transaction({ id, startedAt, connectedAt }: RecordedTransaction): TransactionEvent {
    return { ...this.#session(), transactionId: id, waitMs: connectedAt - startedAt }
  }

  #ended(transaction: RecordedTransaction): TransactionEndedEvent {
    const durationMs = performance.now() - transaction.startedAt
    return { ...this.#transaction(transaction), durationMs, wrote: transaction.wrote }
  }
}
