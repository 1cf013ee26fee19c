import type { Context } from "koa"
import { SessionOptionsError } from "../errors"
import { keepAttempts } from "../session/ambient"
import { assertOnlySessionOptions, type SessionOptions } from "../session/options"

/** Options of `sessions()`: defaults for the sessions of all requests, and what concerns the request. */
export interface SessionsOptions extends SessionOptions {
  /**
   * Whether a request that threw nothing is rolled back all the same.
   * Default: when the response's status is 400 or more.
   */
  readonly rollbackWhen?: (ctx: Context) => boolean
  /** Whether errors of the database become HTTP errors that say nothing of it; default true */
  readonly mapErrors?: boolean
  /**
   * Names and values that are set in the database for the transaction only, for row-level security; asked for at each begin
   * and sent with it. What throws here refuses the transaction. PostgreSQL and CockroachDB only.
   */
  readonly variables?: (ctx: Context) => Readonly<Record<string, string>>
  /**
   * ms, default 30 000: a transaction that is held longer is reported once, as a `TransactionHeldError` that Koa's
   * `app.on("error")` gets. It goes on.
   */
  readonly warnAfterMs?: number
  /**
   * Whether `currentSession()` works in the request, and what joins it; default false. It uses `AsyncLocalStorage`, which on
   * Node 20 slows every promise of the process down; where it is off it costs nothing.
   */
  readonly ambient?: boolean
}

/** The options, checked, with defaults filled in; one object for all requests. */
export interface SessionsSettings {
  readonly defaults: SessionOptions
  readonly mapErrors: boolean
  readonly rollbackWhen: ((ctx: Context) => boolean) | undefined
  readonly variables: ((ctx: Context) => Readonly<Record<string, string>>) | undefined
  readonly warnAfterMs: number
  readonly ambient: boolean
}

const NAMES: readonly (keyof SessionsOptions)[] = ["rollbackWhen", "mapErrors", "variables", "warnAfterMs", "ambient"]

/** @throws {SessionOptionsError} for an unknown option or one of the wrong kind */
export function sessionsSettings(options: SessionsOptions): SessionsSettings {
  assertOnlySessionOptions(options, NAMES, "sessions()")
  const { rollbackWhen, mapErrors = true, variables, warnAfterMs = 30_000, ambient = false, ...defaults } = options
  for (const [name, value] of Object.entries({ rollbackWhen, variables })) {
    if (value !== undefined && typeof value !== "function") {
      throw new SessionOptionsError(`sessions(): option "${name}" must be a function of the Koa context.`)
    }
  }
  for (const [name, value] of Object.entries({ mapErrors, ambient })) {
    if (typeof value !== "boolean") {
      throw new SessionOptionsError(`sessions(): option "${name}" must be true or false.`)
    }
  }
  if (typeof warnAfterMs !== "number" || !(warnAfterMs > 0)) {
    throw new SessionOptionsError('sessions(): option "warnAfterMs" must be a number of ms above 0.')
  }
  if (defaults.retries) keepAttempts()
  return Object.freeze({ defaults: Object.freeze(defaults), mapErrors, rollbackWhen, variables, warnAfterMs, ambient })
}

/** @throws {SessionOptionsError} where a value is no string: a tenant that is not known must not become an empty one */
export function variablesOf(
  { variables }: SessionsSettings,
  ctx: Context,
): Readonly<Record<string, string>> | undefined {
  const values = variables?.(ctx)
  for (const [name, value] of Object.entries(values ?? {})) {
    if (typeof value === "string") continue
    throw new SessionOptionsError(
      `sessions(): variables(ctx) gave ${value === null ? "null" : typeof value} for "${name}": give a string, or leave the name out.`,
    )
  }
  return values
}
