import type { Context } from "koa"
import type { Action } from "routing-controllers"
import { takeAnswerBack, tryScope } from "./request-context"

export type ExecuteAction = (action: Action) => unknown

/** Goes through routing-controllers' error path up to the route, where the action is run again. */
export class RunAgain {
  constructor(readonly failure: unknown) {}
}

/** One request in its action, however often that runs. */
class Attempts {
  /** what middleware before the action wrote would be rolled back and not done again */
  readonly #followsWrites: boolean
  #following: Promise<unknown> | undefined
  #isSessionUsedAfter = false

  constructor(
    private readonly ctx: Context,
    private readonly next: () => Promise<unknown>,
  ) {
    this.#followsWrites = tryScope(ctx)?.hasWritten === true
  }

  /** Koa's middleware after the action runs once only (koa-compose 4: "next() called multiple times"). */
  follow(): Promise<unknown> {
    this.#following ??= this.#runFollowing()
    return this.#following
  }

  /** Not after middleware behind the action used a session: its work would be lost, too. */
  get canRepeat(): boolean {
    return !this.#followsWrites && !this.#isSessionUsedAfter && !this.ctx.headerSent && this.ctx.writable
  }

  async #runFollowing(): Promise<unknown> {
    const askedBefore = tryScope(this.ctx)?.asked
    try {
      return await this.next()
    } finally {
      this.#isSessionUsedAfter = tryScope(this.ctx)?.asked !== askedBefore
    }
  }
}

const ATTEMPTS = Symbol("routing-controllers-typeorm attempts")

interface Attempt extends Action {
  readonly [ATTEMPTS]?: Attempts
}

/** Whether `action` can be run again from its start: it was started by `repeatable()`, and nothing else would be undone. */
export function isRepeatable(action: Action): boolean {
  return (action as Attempt)[ATTEMPTS]?.canRepeat === true
}

/** Runs the action again as often as it ends with `RunAgain`. */
export function repeatable(execute: ExecuteAction): ExecuteAction {
  return async function runAction(action: Action): Promise<unknown> {
    const attempts = new Attempts(action.context, action.next as () => Promise<unknown>)
    for (;;) {
      const attempt: Attempt = { ...action, next: () => attempts.follow(), [ATTEMPTS]: attempts }
      try {
        return await execute(attempt)
      } catch (error) {
        if (!(error instanceof RunAgain)) throw error
      }
      forgetAnswer(action.context)
    }
  }
}

function forgetAnswer(ctx: Context): void {
  takeAnswerBack(ctx)
  ctx.res.statusCode = 404
  // A status that was set stays when a body is set (koa 3 `lib/response.js`, body).
  const response = ctx.response as unknown as { _explicitStatus: boolean; _explicitNullBody: boolean }
  response._explicitStatus = false
  response._explicitNullBody = false
}
