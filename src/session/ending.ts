import type { Block } from "./block"
import { type ErrorSink, type Hook, runHooks } from "./hooks"
import type { Transaction } from "./transaction"

/** The session whose transaction is ended. */
interface TransactionHolder {
  readonly root: Block
  readonly transaction: Transaction | undefined
  hasCommitted: boolean
  forgetTransaction(transaction: Transaction): void
}

/** What is left to be done when a transaction has ended: not in the step that ended it, so that hooks can use the session. */
export interface Ending {
  readonly hooks: readonly Hook[]
  readonly failure?: { readonly error: unknown }
}

const NO_HOOKS: readonly Hook[] = []

/** Commits what is open. Never rejects: what failed is in the result. */
export async function commitOpen(holder: TransactionHolder): Promise<Ending> {
  if (holder.transaction?.isDoubted) await holder.transaction.notice()
  const { root, transaction } = holder
  if (transaction === undefined) return { hooks: NO_HOOKS }
  let failure: { readonly error: unknown } | undefined
  try {
    await transaction.commit()
  } catch (error) {
    failure = { error }
  }
  if (transaction.outcome !== "rolled back") holder.hasCommitted = true
  holder.forgetTransaction(transaction)
  const hooks = endHooks(root, transaction)
  return failure ? { hooks, failure } : { hooks }
}

/** Rolls back what is open. @returns the hooks that are to run then */
export async function rollbackOpen(holder: TransactionHolder): Promise<readonly Hook[]> {
  const { root, transaction } = holder
  if (transaction === undefined) return NO_HOOKS
  await transaction.rollback()
  // DDL has committed it before, or was under way when the connection was lost.
  if (transaction.outcome !== "rolled back") holder.hasCommitted = true
  holder.forgetTransaction(transaction)
  return endHooks(root, transaction)
}

/** @throws what the commit failed with */
export async function finishEnding({ hooks, failure }: Ending, sink: ErrorSink): Promise<void> {
  if (hooks.length > 0) await runHooks(hooks, sink)
  if (failure) throw failure.error
}

/** The hooks of a transaction that has ended, however that came. */
export function endHooks(root: Block, { endHook, outcome = "committed" }: Transaction): readonly Hook[] {
  const hooks = root.hooks.take(outcome)
  return endHook ? [endHook, ...hooks] : hooks
}
