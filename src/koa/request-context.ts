import type { Context } from "koa"
import { SessionClosedError, SessionScopeError } from "../errors"
import type { Outcome } from "../request/end"
import { type RequestHost, RequestScope } from "../request/request-scope"
import { type Ambience, runInAmbience } from "../session/ambient"
import type { SessionOptions } from "../session/options"
import { type SessionsSettings, variablesOf } from "./sessions-options"

const SCOPE = Symbol("routing-controllers-typeorm scope")
const AMBIENCE = Symbol("routing-controllers-typeorm ambience")

/** Until a session is asked for, the request holds only the settings, which are the same object for all requests. */
interface ScopedContext extends Context {
  [SCOPE]?: SessionsSettings | ScopedRequest
  [AMBIENCE]?: Ambience
}

/** What is to be done when a request is over. */
export interface RequestEnd {
  /** Called as soon as the body is flushed or the connection is gone. */
  gone?(): void
  /** Called when every middleware has ended as well. Never rejects. */
  end(): Promise<void> | undefined
}

/** A request that has asked for a session. */
class ScopedRequest implements RequestHost, RequestEnd {
  readonly asWriter: boolean
  readonly scope = new RequestScope(this)

  constructor(
    private readonly ctx: Context,
    readonly settings: SessionsSettings,
  ) {
    this.asWriter = ctx.method !== "GET" && ctx.method !== "HEAD" && ctx.method !== "OPTIONS"
  }

  get request(): object {
    return this.ctx
  }

  get defaults(): SessionOptions {
    return this.settings.defaults
  }

  get warnAfterMs(): number {
    return this.settings.warnAfterMs
  }

  label(): string {
    return `${this.ctx.method} ${this.ctx._matchedRoute ?? this.ctx.path}`
  }

  report(error: unknown): void {
    // Its session was closed because the client left: that is no mistake of the action.
    if (!(this.scope.isAbandoned && error instanceof SessionClosedError)) reportTo(this.ctx, error)
  }

  reportLate(error: unknown): void {
    reportTo(this.ctx, error)
  }

  variables(): Readonly<Record<string, string>> | undefined {
    return this.settings.variables && variablesOf(this.settings, this.ctx)
  }

  gone(): void {
    if (!this.ctx.res.writableFinished) this.scope.abandon()
  }

  end(): Promise<void> | undefined {
    return this.scope.finish()
  }

  runAtEnd(fn: () => Promise<void>): Promise<void> {
    return runAtEnd(this.ctx, fn)
  }
}

export function isScoped(ctx: Context): boolean {
  return (ctx as ScopedContext)[SCOPE] !== undefined
}

export function enterScope(ctx: Context, settings: SessionsSettings): void {
  ;(ctx as ScopedContext)[SCOPE] = settings
}

export function keepAmbienceOf(ctx: Context, ambience: Ambience): void {
  ;(ctx as ScopedContext)[AMBIENCE] = ambience
}

/** Runs what comes at the end of the request: `currentSession()` is to work there, too, where it does in the request. */
export function runAtEnd(ctx: Context, fn: () => Promise<void>): Promise<void> {
  const ambience = (ctx as ScopedContext)[AMBIENCE]
  return ambience ? runInAmbience(ambience, fn) : fn()
}

/** The scope, where a session was asked for. */
export function tryScope(ctx: Context): RequestScope | undefined {
  const entered = (ctx as ScopedContext)[SCOPE]
  return entered instanceof ScopedRequest ? entered.scope : undefined
}

/**
 * Rolls back the sessions of a request that has failed. One that had asked for none is marked all the same: what its action
 * left behind must get none later. Never rejects.
 */
export async function failRequest(ctx: Context): Promise<void> {
  const scoped = ctx as ScopedContext
  const entered = scoped[SCOPE]
  if (entered === undefined) return
  const request = entered instanceof ScopedRequest ? entered : new ScopedRequest(ctx, entered)
  scoped[SCOPE] = request
  await request.scope.fail()
}

/** How often the action was begun before: it is run again where `retries` says so. */
export function attemptOf(ctx: Context): number {
  return tryScope(ctx)?.attempts ?? 0
}

export function settingsOf(ctx: Context): SessionsSettings | undefined {
  const entered = (ctx as ScopedContext)[SCOPE]
  return entered instanceof ScopedRequest ? entered.settings : entered
}

/**
 * The scope, made now if this is the first session that the request asks for.
 * @param what asks for it, for the error message
 * @throws {SessionScopeError} where `sessions()` is not installed
 */
export function scopeOf(ctx: Context, what: string, onOpen: (ctx: Context, end: RequestEnd) => void): RequestScope {
  const entered = (ctx as ScopedContext)[SCOPE]
  if (entered === undefined) {
    throw new SessionScopeError(
      `${what} ran outside of a request scope. Use useKoaServer() or createKoaServer() of routing-controllers-typeorm ` +
        "in place of routing-controllers' own, or add app.use(sessions()) before everything that uses a session.",
    )
  }
  if (entered instanceof ScopedRequest) return entered.scope
  const request = new ScopedRequest(ctx, entered)
  ;(ctx as ScopedContext)[SCOPE] = request
  onOpen(ctx, request)
  return request.scope
}

/** How the request has gone so far: a status of 400 or more undoes it, unless the application says otherwise. */
function outcomeOf(ctx: Context): Outcome {
  const rollbackWhen = settingsOf(ctx)?.rollbackWhen
  return (rollbackWhen ? rollbackWhen(ctx) : statusOf(ctx) >= 400) ? "rollback" : "commit"
}

/**
 * Ends the sessions of the action, or of the chain, that has returned. Koa makes JSON of the body after all middleware have
 * ended, when the commit has long happened, so it is tried here; the text is not kept: middleware outside may still change
 * the body.
 * @returns undefined where there is nothing to wait for
 * @throws what the body's serialisation throws; the promise rejects with what the commit throws
 */
export function endAction(ctx: Context): Promise<void> | undefined {
  const scope = tryScope(ctx)
  if (!scope?.hasUnended) return undefined
  const outcome = outcomeOf(ctx)
  const isLater = isAnsweredLater(ctx)
  if (outcome === "commit" && !isLater && scope.hasWritten) assertSerializable(ctx.body)
  return scope.complete(outcome, isLater)
}

function assertSerializable(body: unknown): void {
  if (typeof body === "object" && body !== null && !Buffer.isBuffer(body)) JSON.stringify(body)
}

/** Whether the response goes on using sessions after the middleware have ended: a stream, or a handler on its own. */
function isAnsweredLater(ctx: Context): boolean {
  if (ctx.respond === false) return true
  const body: unknown = ctx.body
  if (typeof body !== "object" || body === null || Buffer.isBuffer(body)) return false
  return "pipe" in body || body instanceof ReadableStream || body instanceof Blob || body instanceof Response
}

/** Forgets the body, and what says where or of which kind it is; a stream that it was is destroyed. */
export function takeAnswerBack(ctx: Context): void {
  // First, for with it koa 3 makes "null" of an empty body.
  ctx.remove("Content-Type")
  ctx.remove("Location")
  ctx.body = null
}

/** Hands an error that the client cannot be told to the application: Koa's `app.on("error", (error, ctx))`. */
export function reportTo(ctx: Context, error: unknown): void {
  ctx.app.emit("error", error instanceof Error ? error : new Error(`non-error thrown: ${String(error)}`), ctx)
}

/** A handler that answers by itself sets the status on Node's response, if at all; Koa's own default there is 404. */
function statusOf(ctx: Context): number {
  if (ctx.respond === false && !ctx.res.headersSent) return 200
  return ctx.res.headersSent ? ctx.res.statusCode : ctx.status
}
