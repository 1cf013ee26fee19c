import type { Context } from "koa"
import { type Action, type ActionMetadata, getMetadataArgsStorage, KoaDriver } from "routing-controllers"
import { assertNoMiddlewareOwner, type Class, mayBeGivenSession } from "../request/injection"
import { arePrepared, prepareMakers } from "../request/known-makers"
import type { RequestScope } from "../request/request-scope"
import { isRetryable } from "../session/managed"
import { isMappedError, toHttpError } from "./http-errors"
import { type ExecuteAction, followAction, isRepeatable, RunAgain, repeatable } from "./repeat-action"
import { endAction, failRequest, reportTo, settingsOf, takeAnswerBack, tryScope } from "./request-context"
import { assertOneSessionEach } from "./session-parameters"

/**
 * routing-controllers' Koa driver that ends the request's sessions in its own success and error path: a commit that fails
 * takes the way of a throw in the action, the default error handler and custom error middleware included.
 * Read for this: routing-controllers 0.11.3 `driver/koa/KoaDriver.js`, `RoutingControllers.js` (`executeAction` calls
 * `handleError` for what `handleSuccess` rejects with, and a second time for what `handleError` rejects with).
 */
export class SessionKoaDriver extends KoaDriver {
  override registerAction(action: ActionMetadata, execute: ExecuteAction): void {
    assertOneSessionEach(action)
    for (const { middleware } of [...action.controllerMetadata.uses, ...action.uses]) {
      // It may be a plain function, too.
      if (middleware.prototype?.use) assertNoMiddlewareOwner(middleware as unknown as Class)
    }
    super.registerAction(action, repeatable(prepared(action, execute)))
  }

  override handleSuccess(result: unknown, action: ActionMetadata, options: Action): unknown {
    const ctx = options.context as Context
    const askedBefore = tryScope(ctx)?.asked ?? 0
    const answered: unknown = super.handleSuccess(result, action, options)
    const scope = tryScope(ctx)
    return scope ? this.#endSessions(answered, scope, askedBefore, ctx) : answered
  }

  override async handleError(error: unknown, action: ActionMetadata | undefined, options: Action): Promise<void> {
    if (error instanceof RunAgain) throw error
    const ctx = options.context as Context
    const scope = tryScope(ctx)
    if (scope && isRetryable(error) && isRepeatable(scope, ctx) && (await scope.prepareRetry()))
      throw new RunAgain(error)
    await failRequest(ctx)
    const shown = settingsOf(ctx)?.mapErrors ? (toHttpError(error) ?? error) : error
    if (this.isDefaultErrorHandlingEnabled) this.#prepareAnswer(ctx, shown, error)
    await super.handleError(shown, action as ActionMetadata, options)
  }

  protected override processJsonError(error: unknown): unknown {
    const processed: unknown = super.processJsonError(error)
    // In development routing-controllers adds the stack, which here is that of the database's error.
    if (isMappedError(error) && typeof processed === "object" && processed !== null) {
      delete (processed as { stack?: string }).stack
    }
    return processed
  }

  protected override processTextError(error: unknown): unknown {
    return isMappedError(error) ? error.message : super.processTextError(error)
  }

  async #endSessions(answered: unknown, scope: RequestScope, askedBefore: number, ctx: Context): Promise<unknown> {
    const value = await followAction(scope, answered, askedBefore)
    const ending = endAction(ctx)
    if (ending) await ending
    return value
  }

  #prepareAnswer(ctx: Context, shown: unknown, error: unknown): void {
    // A commit that failed comes after the answer was made: nothing of it may stay.
    if (ctx.body !== undefined && ctx.body !== null) takeAnswerBack(ctx)
    if (!isMappedError(shown)) return
    const { httpCode, headers } = shown as { httpCode: number; headers?: Record<string, string> }
    if (httpCode >= 500 && !tryScope(ctx)?.isAbandoned) reportTo(ctx, error)
    if (headers) ctx.set(headers)
  }
}

/**
 * A constructor cannot wait: where sessions may be injected into classes, their makers are prepared before one is built.
 * Actions whose classes are surely given none do not wait: they go on working while a maker cannot be prepared.
 */
function prepared(action: ActionMetadata, execute: ExecuteAction): ExecuteAction {
  const classes = classesOf(action)
  return (request) => {
    if (arePrepared() || !mayBeGivenSession(classes)) return execute(request)
    return prepareMakers().then(() => execute(request))
  }
}

/** What routing-controllers builds for the action: its controller, and the interceptors around it. */
function classesOf(action: ActionMetadata): Class[] {
  const { interceptors } = getMetadataArgsStorage()
  const used = [...action.controllerMetadata.interceptors, ...action.interceptors].map(({ interceptor }) => interceptor)
  const classes = [action.target, ...interceptors.map(({ target }) => target), ...used]
  return classes.filter((one) => typeof one === "function") as Class[]
}
