import type { Context } from "koa"
import type { Action } from "routing-controllers"
import type { RequestScope } from "../request/request-scope"
import { AttemptAmbience, areAttemptsKept, runInAmbience } from "../session/ambient"
import { takeAnswerBack, tryScope } from "./request-context"

export type ExecuteAction = (action: Action) => unknown

/** Goes through routing-controllers' error path up to the route, where the action is run again. */
export class RunAgain {
  constructor(readonly failure: unknown) {}
}

/** How the action of one request went so far; kept for requests that use a session only. */
interface Attempts {
  /** what middleware before the action wrote would be rolled back and not done again */
  followsWrites: boolean
  /** the same of middleware behind it */
  isSessionUsedAfter: boolean
  /** that middleware, once it was started: it runs once only (koa-compose 4: "next() called multiple times") */
  following: Promise<unknown> | undefined
}

const attempts = new WeakMap<RequestScope, Attempts>()

function attemptsOf(scope: RequestScope): Attempts {
  let known = attempts.get(scope)
  if (known === undefined) {
    known = { followsWrites: false, isSessionUsedAfter: false, following: undefined }
    attempts.set(scope, known)
  }
  return known
}

/** Whether the action can be run again from its start: nothing else would be undone, and nothing was answered. */
export function isRepeatable(scope: RequestScope, ctx: Context): boolean {
  const { followsWrites, isSessionUsedAfter } = attemptsOf(scope)
  return !followsWrites && !isSessionUsedAfter && !ctx.headerSent && ctx.writable
}

/**
 * Waits for what the action started behind it, and keeps in mind what it was.
 * @param askedBefore how often a session had been asked for when the action returned
 */
export async function followAction(scope: RequestScope, answered: unknown, askedBefore: number): Promise<unknown> {
  try {
    return await answered
  } finally {
    if (scope.asked !== askedBefore) attemptsOf(scope).isSessionUsedAfter = true
    if (scope.mayRetry) attemptsOf(scope).following = Promise.resolve(answered)
  }
}

/** Runs the action again as often as it ends with `RunAgain`. A request without a session pays one promise. */
export function repeatable(execute: ExecuteAction): ExecuteAction {
  return function runAction(action: Action): unknown {
    const earlier = tryScope(action.context)
    if (earlier?.hasWritten) attemptsOf(earlier).followsWrites = true
    const executeOnce = areAttemptsKept ? inAttempt(execute) : execute
    const outcome = executeOnce(action)
    if (!(outcome instanceof Promise)) return outcome
    return outcome.catch((error: unknown) => repeat(executeOnce, action, error))
  }
}

/** So that code which goes on after its action has failed, or while it is run again, is known to belong to that try. */
function inAttempt(execute: ExecuteAction): ExecuteAction {
  return (action) => runInAmbience(new AttemptAmbience(action.context), async () => execute(action))
}

async function repeat(execute: ExecuteAction, action: Action, failure: unknown): Promise<unknown> {
  let error = failure
  while (error instanceof RunAgain) {
    const scope = tryScope(action.context)
    const following = scope && attemptsOf(scope).following
    forgetAnswer(action.context)
    try {
      return await execute(following ? { ...action, next: () => following } : action)
    } catch (again) {
      error = again
    }
  }
  throw error
}

function forgetAnswer(ctx: Context): void {
  takeAnswerBack(ctx)
  ctx.res.statusCode = 404
  // A status that was set stays when a body is set (koa 3 `lib/response.js`, body).
  const response = ctx.response as unknown as { _explicitStatus: boolean; _explicitNullBody: boolean }
  response._explicitStatus = false
  response._explicitNullBody = false
}
