import type { CommitTiming } from "../session/options"

/** How the request went, as far as its sessions are concerned. */
export type Outcome = "commit" | "rollback"

/** What is to be done with a session when the action has returned and the response's head is not sent yet. */
export type End =
  /** roll back and close */
  | "close"
  /** commit, and answer only when the database has said COMMIT */
  | "commit"
  /** commit without holding the response up: it only read */
  | "commit in background"
  /** leave it as it is until the body is flushed */
  | "leave"

export interface SessionFacts {
  readonly commit: CommitTiming
  /** whether it may have changed something, or work of it is still under way */
  readonly matters: boolean
  readonly hasOpenStream: boolean
  /** whether the body, or a handler that answers by itself, goes on using the session */
  readonly isUsedByBody: boolean
}

/** Contract section 4, "when the commit happens", without HTTP. */
export function decideEnd(outcome: Outcome, facts: SessionFacts): End {
  if (outcome === "rollback") return "close"
  if (facts.commit === "manual") return facts.isUsedByBody ? "leave" : "close"
  if (facts.commit === "after-response") return "leave"
  // A COMMIT would close the cursor under the stream.
  if (facts.hasOpenStream) return "leave"
  if (facts.commit === "before-response" || facts.matters) return "commit"
  return "commit in background"
}

/** What is to be done with a session that is still open when the body is flushed, or the connection is gone. */
export function decideLate(outcome: Outcome, commit: CommitTiming): "commit" | "close" {
  return outcome === "commit" && commit !== "manual" ? "commit" : "close"
}
