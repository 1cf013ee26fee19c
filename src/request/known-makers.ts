import { Container, type ServiceIdentifier } from "typedi"
import { SessionOptionsError } from "../errors"
import type { SessionMaker } from "../session/session-maker"
import { findMaker } from "./session-request"

/**
 * The makers whose sessions are asked for where nobody can wait: in constructors and through `currentSession()`. They are
 * prepared (configuration read, metadata built, no connection) before such code runs.
 */
const identifiers = new Set<ServiceIdentifier<SessionMaker>>()
const failures = new Map<ServiceIdentifier<SessionMaker>, unknown>()

export function addKnownMaker(identifier: ServiceIdentifier<SessionMaker>): void {
  identifiers.add(identifier)
}

/** Prepares the makers that are not. A failure is kept for whoever asks for a session; others need not know of it. */
export async function prepareMakers(): Promise<void> {
  for (const identifier of identifiers) {
    try {
      const maker = findMaker(identifier)
      if (!maker.isPrepared) await maker.prepare()
      failures.delete(identifier)
    } catch (error) {
      failures.set(identifier, error)
    }
  }
}

/** Classes that a session is injected into. */
const owners = new Set<object>()

export function addOwner(owner: object): void {
  owners.add(owner)
}

/**
 * Called when a server is built.
 * @throws {SessionOptionsError} naming a `{ global: true }` service that a session is injected into: it is built once, and
 *   would keep one request's session for all
 */
export function assertNoGlobalOwners(): void {
  // typedi 0.10.0: `findService` is private, and the decorators give no other way to ask.
  const container = Container.of(undefined) as unknown as {
    findService(id: object): { readonly global?: boolean } | undefined
  }
  for (const owner of owners) {
    if (!container.findService(owner)?.global) continue
    throw new SessionOptionsError(
      `${(owner as { name: string }).name} is a { global: true } service with an @InjectSession(): it is built once and would keep ` +
        "one request's session for all. Leave out global, or use currentSession() with sessions({ ambient: true }).",
    )
  }
}

/** Whether `prepareMakers()` would have nothing to do. */
export function arePrepared(): boolean {
  if (identifiers.size === 0) return true
  for (const identifier of identifiers) {
    try {
      if (!findMaker(identifier).isPrepared) return false
    } catch {
      // Said again by `prepareMakers()`, which keeps it.
      return false
    }
  }
  return true
}

/** Why the maker could not be prepared, if it could not. */
export function preparationFailure(identifier: ServiceIdentifier<SessionMaker>): unknown {
  return failures.get(identifier)
}
