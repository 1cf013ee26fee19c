import { SessionScopeError, SessionStateError } from "../errors"
import { currentAmbience } from "../session/ambient"
import { assertSessionOptions } from "../session/options"
import type { Session } from "../session/session"
import { SessionMaker } from "../session/session-maker"
import { addKnownMaker, preparationFailure } from "./known-makers"
import { findMaker, type RequestSessionOptions } from "./session-request"

/**
 * The session of the request, or of the `run()`, that the calling code runs in: the one in use there, or a new one. In a
 * request it needs `sessions({ ambient: true })`. Lifetime: as the session that `@Session()` injects.
 * @param options `maker` for another database; others where only a session with these will do
 * @throws {SessionScopeError} outside of a request or `run()`
 * @throws {SessionStateError} where a maker other than the default one is asked for the first time before it was used: call
 *   `await maker.prepare()` when the application starts
 * @see SQLAlchemy `scoped_session`
 */
export function currentSession(options: RequestSessionOptions = {}): Session {
  const session = findCurrent(options)
  if (session) return session
  throw new SessionScopeError(
    "currentSession() was called outside of a request or run(). In a request it needs sessions({ ambient: true }) or " +
      "useKoaServer(app, { sessions: { ambient: true } }); elsewhere put the work into maker.run().",
  )
}

/** As `currentSession()`, but `undefined` outside of a request or `run()`. */
export function tryCurrentSession(options: RequestSessionOptions = {}): Session | undefined {
  return findCurrent(options)
}

function findCurrent({ maker: identifier = SessionMaker, ...own }: RequestSessionOptions): Session | undefined {
  assertSessionOptions(own, "currentSession()")
  const session = currentAmbience()?.sessionOf(findMaker(identifier), own)
  if (!(session instanceof Promise)) return session
  addKnownMaker(identifier)
  session.catch(() => undefined)
  const cause = preparationFailure(identifier)
  if (cause !== undefined) throw cause
  throw new SessionStateError(
    "currentSession() cannot wait for a SessionMaker that is not prepared: call await maker.prepare() when the application starts.",
  )
}
