import type { ServiceIdentifier } from "typedi"
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

export function isKnownMaker(identifier: ServiceIdentifier): boolean {
  return identifiers.has(identifier as ServiceIdentifier<SessionMaker>)
}

/** Prepares the makers that are not. A failure is kept for whoever asks for a session; others need not know of it. */
export async function prepareMakers(): Promise<void> {
  await Promise.all([...identifiers].map((identifier) => prepareMaker(identifier)))
}

async function prepareMaker(identifier: ServiceIdentifier<SessionMaker>): Promise<void> {
  try {
    const maker = findMaker(identifier)
    if (!maker.isPrepared) await maker.prepare()
    failures.delete(identifier)
  } catch (error) {
    failures.set(identifier, error)
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
