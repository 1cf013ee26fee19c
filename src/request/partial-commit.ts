import { inspect } from "node:util"
import { type ServiceIdentifier, Token } from "typedi"
import { PartialCommitError } from "../errors"
import type { SessionMaker } from "../session/session-maker"
import type { SessionOpener } from "../session/session-opener"

/** How a maker is named in errors. */
export function describeMaker(
  identifier: ServiceIdentifier<SessionMaker> | SessionOpener,
  maker: SessionOpener,
): string {
  if (identifier instanceof Token) return `Token "${identifier.name ?? ""}"`
  if (typeof identifier === "string") return `"${identifier}"`
  return typeof identifier === "function" ? identifier.name : inspect(maker)
}

export function partialCommit(committed: readonly string[], failed: string, cause: unknown): PartialCommitError {
  return new PartialCommitError(
    `The commit of ${failed} failed after the commit of ${committed.join(", ")}, which stays: the databases of one request are ` +
      "committed one after another, in the order of their first use. Undo or finish the work by hand; use first what can be repeated.",
    committed,
    failed,
    { cause },
  )
}
