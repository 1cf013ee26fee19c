import type { Context } from "koa"
import { type Action, type ActionMetadata, KoaDriver } from "routing-controllers"
import type { RequestScope } from "../request/request-scope"
import { isRetryable } from "../session/managed"
import { isMappedError, toHttpError } from "./http-errors"
import { isAnsweredLater, outcomeOf, reportTo, settingsOf, tryScope } from "./request-context"
import { assertOneSessionEach, usesSession } from "./session-parameters"

/** Goes through routing-controllers' error path up to the route, where the action is run again. */
class RunAgain {
  constructor(readonly failure: unknown) {}
}

type ExecuteAction = (action: Action) => unknown

/**
 * routing-controllers' Koa driver that ends the request's sessions in its own success and error path: a commit that fails
 * takes the way of a throw in the action, the default error handler and custom error middleware included.
 * Read for this: routing-controllers 0.11.3 `driver/koa/KoaDriver.js`, `RoutingControllers.js` (`executeAction` calls
 * `handleError` for what `handleSuccess` rejects with, and a second time for what `handleError` rejects with).
 */
export class SessionKoaDriver extends KoaDriver {
  override registerAction(action: ActionMetadata, execute: ExecuteAction): void {
    assertOneSessionEach(action)
    super.registerAction(action, usesSession(action) ? repeatable(execute) : execute)
  }

  override handleSuccess(result: unknown, action: ActionMetadata, options: Action): unknown {
    const ctx = options.context as Context
    const answered: unknown = super.handleSuccess(result, action, options)
    return tryScope(ctx) ? this.#endSessions(answered, ctx) : answered
  }

  override async handleError(error: unknown, action: ActionMetadata | undefined, options: Action): Promise<void> {
    if (error instanceof RunAgain) throw error
    const ctx = options.context as Context
    const scope = tryScope(ctx)
    if (scope) {
      if (isRetryable(error) && (await scope.prepareRetry())) throw new RunAgain(error)
      await scope.fail()
    }
    const shown = settingsOf(ctx)?.mapErrors ? (toHttpError(error) ?? error) : error
    if (isMappedError(shown) && this.isDefaultErrorHandlingEnabled) this.#prepareAnswer(ctx, shown, error)
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

  async #endSessions(answered: unknown, ctx: Context): Promise<unknown> {
    const value = await answered
    const scope = tryScope(ctx) as RequestScope
    const outcome = outcomeOf(ctx)
    if (outcome === "commit" && scope.hasWritten) assertSerializable(ctx)
    await scope.complete(outcome, isAnsweredLater(ctx))
    return value
  }

  #prepareAnswer(ctx: Context, shown: { httpCode: number; headers?: Record<string, string> }, error: unknown): void {
    if (shown.httpCode >= 500) reportTo(ctx, error)
    // A commit that failed comes after the answer was made: nothing of it may stay.
    ctx.body = null
    ctx.remove("Location")
    if (shown.headers) ctx.set(shown.headers)
  }
}

/**
 * Koa makes JSON of the body after all middleware have ended, when the commit has long happened. The text made here is not
 * kept: middleware outside may still change the body.
 */
function assertSerializable(ctx: Context): void {
  const body: unknown = ctx.body
  if (typeof body !== "object" || body === null || Buffer.isBuffer(body) || isAnsweredLater(ctx)) return
  JSON.stringify(body)
}

function repeatable(execute: ExecuteAction): ExecuteAction {
  return async function runAction(action: Action): Promise<unknown> {
    for (;;) {
      try {
        return await execute(action)
      } catch (error) {
        if (!(error instanceof RunAgain)) throw error
      }
    }
  }
}
