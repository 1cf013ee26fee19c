import type { Session } from "../../../src/decorators/session"
import type { SessionMakerOptions } from "../../../src/session/session-maker"

/*
 * Names of the contract that the public types do not have yet: every cast for them is in this file. TODO: replace each by
 * the plain name once `answerTimeoutMs`, `resolveCommits`, `CommitOutcomeUnknownError` and `afterCompletion` are there.
 */

export function answerWithin(ms: number): SessionMakerOptions {
  return { answerTimeoutMs: ms } as SessionMakerOptions
}

export const resolvingCommits = { resolveCommits: true } as SessionMakerOptions

export const OUTCOME_UNKNOWN = "ERR_SESSION_COMMIT_OUTCOME_UNKNOWN"

export type Outcome = "committed" | "rolled back" | "unknown"

interface WithCompletion {
  afterCompletion?(fn: (outcome: Outcome) => void): void
}

export function afterCompletion(db: Session, fn: (outcome: Outcome) => void): void {
  const session = db as unknown as WithCompletion
  session.afterCompletion?.(fn)
}
