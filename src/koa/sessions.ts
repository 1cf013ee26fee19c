import type { Context, Middleware, Next } from "koa"
import { addKnownMaker, arePrepared, prepareMakers } from "../request/known-makers"
import { type RequestSessionOptions, SessionRequest } from "../request/session-request"
import { type Ambience, Attempt, keepAmbience, runInAmbience } from "../session/ambient"
import type { SessionOptions } from "../session/options"
import type { Session } from "../session/session"
import { SessionMaker } from "../session/session-maker"
import type { SessionOpener } from "../session/session-opener"
import { assertVariablesSupported } from "./assert-variables"
import { toHttpError } from "./http-errors"
import { endAction, enterScope, failRequest, isScoped, keepAmbienceOf, scopeOf, tryScope } from "./request-context"
import { markChainEnded, whenRequestEnds } from "./request-end"
import { type SessionsOptions, sessionsSettings } from "./sessions-options"

/**
 * Koa middleware that gives every request a scope for its sessions. It ends them when the middleware after it have run, where
 * the session-aware driver has not already, and closes them when the body is flushed or the connection is gone.
 * A request that asks for no session costs one property. `useKoaServer()` installs it; a second one in the chain does nothing.
 * @throws {SessionOptionsError} at once, for an unknown option or one out of range, or `variables` where the default maker's
 *   database is known by then and has none
 */
export function sessions(options: SessionsOptions = {}): Middleware {
  const settings = sessionsSettings(options)
  if (settings.variables) assertVariablesSupported()
  if (settings.ambient) {
    keepAmbience()
    addKnownMaker(SessionMaker)
  }
  return async function sessionScope(ctx: Context, next: Next): Promise<void> {
    if (isScoped(ctx)) return next()
    enterScope(ctx, settings)
    try {
      if (settings.ambient) await runAmbient(ctx, next)
      else await next()
      const ending = endAction(ctx)
      if (ending) await ending
      markChainEnded(ctx)
    } catch (error) {
      await failRequest(ctx)
      markChainEnded(ctx)
      throw (settings.mapErrors && toHttpError(error)) || error
    }
  }
}

/**
 * The request's session for plain Koa middleware and routes, and for routing-controllers' checkers (`action.context`).
 * The same one that `@Session()` with the same options gives. Lifetime: until the body is flushed.
 * @throws {SessionScopeError} where `sessions()` is not installed before
 * @throws {SessionOptionsError} for an unknown option or one out of range
 * @throws as `SessionMaker.dataSource()`
 */
export async function getSession(ctx: Context, options?: RequestSessionOptions): Promise<Session> {
  const request = options ? new SessionRequest(options, "getSession()") : PLAIN
  return openSession(ctx, request, "getSession()")
}

const PLAIN = new SessionRequest({}, "getSession()")

/** @param what asks, for the error message */
export function openSession(ctx: Context, request: SessionRequest, what: string): Session | Promise<Session> {
  return scopeOf(ctx, what, whenRequestEnds).session(request)
}

/** A session can be asked for without waiting only where the maker is prepared; whether it can be, is for who asks. */
function runAmbient(ctx: Context, next: Next): Promise<void> {
  const ambience = new RequestAmbience(ctx)
  keepAmbienceOf(ctx, ambience)
  if (arePrepared()) return runInAmbience(ambience, next)
  return prepareMakers().then(() => runInAmbience(ambience, next))
}

class RequestAmbience implements Ambience {
  /** that of the whole request, where tries are not told apart */
  readonly attempt: Attempt

  constructor(private readonly ctx: Context) {
    this.attempt = new Attempt(ctx)
  }

  workCommitted(): void {
    this.attempt.hasCommitted = true
  }

  sessionOf(maker: SessionOpener, options?: SessionOptions): Session | Promise<Session> {
    return scopeOf(this.ctx, "currentSession()", whenRequestEnds).sessionOf(maker, options)
  }

  hasSession(maker: SessionOpener): boolean {
    return tryScope(this.ctx)?.hasSession(maker) === true
  }
}
