import type { IsolationLevel } from "../engine/connection"
import { SessionOptionsError } from "../errors"

/** When the commit of a request's session happens. `docs/commit-timing.md` says which to choose. */
export type CommitTiming = "auto" | "before-response" | "after-response" | "manual"

/** Options of one session; the same are accepted as defaults by `SessionMaker` and `sessions()`. */
export interface SessionOptions {
  /** default `"auto"`: before the response for a session that wrote, without delaying it for one that only read */
  readonly commit?: CommitTiming
  /** `READ ONLY` transaction, on a replica where there is one; default false */
  readonly readOnly?: boolean
  /** default: the database's */
  readonly isolation?: IsolationLevel
  /** ms, statement timeout in the database, where it has one; default none */
  readonly timeoutMs?: number
  /** ms, longest wait for a connection; default 10 000 */
  readonly acquireTimeoutMs?: number
  /** how often the whole action is run again after a serialization failure or deadlock; default 0 */
  readonly retries?: number
  /**
   * whether plain reads before anything else are sent without a transaction, where that means the same; default true.
   * false: the begin goes with the first statement in any case. `docs/sessions.md` says what differs.
   */
  readonly deferBegin?: boolean
}

/** Session options with every default filled in; frozen, and one object for each combination. */
export interface ResolvedSessionOptions {
  readonly commit: CommitTiming
  readonly readOnly: boolean
  readonly isolation: IsolationLevel | undefined
  readonly timeoutMs: number | undefined
  readonly acquireTimeoutMs: number
  readonly retries: number
  readonly deferBegin: boolean
  /** equal for equal options */
  readonly key: string
}

const TIMINGS: readonly string[] = ["auto", "before-response", "after-response", "manual"]
const ISOLATION_LEVELS: readonly string[] = [
  "READ UNCOMMITTED",
  "READ COMMITTED",
  "REPEATABLE READ",
  "SNAPSHOT",
  "SERIALIZABLE",
]

/** The names of `SessionOptions`, so that other option objects can be told apart from them. */
export const SESSION_OPTION_NAMES = [
  "commit",
  "readOnly",
  "isolation",
  "timeoutMs",
  "acquireTimeoutMs",
  "retries",
  "deferBegin",
] as const satisfies readonly (keyof SessionOptions)[]

/**
 * Checks options as a person wrote them.
 * @param where names the place in error messages, such as "@Session() on UserController.list"
 * @throws {SessionOptionsError} naming the option, what it may be, and the place
 */
export function assertSessionOptions(options: SessionOptions, where: string): void {
  const refuse = (name: string, expected: string) => {
    throw new SessionOptionsError(`${where}: option "${name}" must be ${expected}.`)
  }
  const { commit, readOnly, isolation, timeoutMs, acquireTimeoutMs, retries, deferBegin } = options
  if (commit !== undefined && !TIMINGS.includes(commit)) refuse("commit", `one of ${TIMINGS.join(", ")}`)
  if (readOnly !== undefined && typeof readOnly !== "boolean") refuse("readOnly", "true or false")
  if (deferBegin !== undefined && typeof deferBegin !== "boolean") refuse("deferBegin", "true or false")
  if (isolation !== undefined && !ISOLATION_LEVELS.includes(isolation)) {
    refuse("isolation", `one of ${ISOLATION_LEVELS.join(", ")}`)
  }
  if (timeoutMs !== undefined && !isMilliseconds(timeoutMs)) refuse("timeoutMs", "a whole number of ms above 0")
  if (acquireTimeoutMs !== undefined && !isMilliseconds(acquireTimeoutMs)) {
    refuse("acquireTimeoutMs", "a whole number of ms above 0")
  }
  if (retries !== undefined && !(Number.isInteger(retries) && retries >= 0)) refuse("retries", "0 or a whole number")
}

/** Like `assertSessionOptions`, and refuses names it does not know. */
export function assertOnlySessionOptions(options: object, alsoKnown: readonly string[], where: string): void {
  const known: readonly string[] = [...SESSION_OPTION_NAMES, ...alsoKnown]
  const unknown = Object.keys(options).find((name) => !known.includes(name))
  if (unknown !== undefined) {
    throw new SessionOptionsError(`${where}: option "${unknown}" is unknown; there are ${known.join(", ")}.`)
  }
  assertSessionOptions(options, where)
}

const resolved = new Map<string, ResolvedSessionOptions>()

/** @param layers from the most general to the most particular; a later one wins */
export function resolveSessionOptions(...layers: readonly (SessionOptions | undefined)[]): ResolvedSessionOptions {
  const merged: Record<string, unknown> = {}
  for (const layer of layers) {
    for (const name of SESSION_OPTION_NAMES) if (layer?.[name] !== undefined) merged[name] = layer[name]
  }
  const {
    commit = "auto",
    readOnly = false,
    isolation,
    timeoutMs,
    acquireTimeoutMs = 10_000,
    retries = 0,
    deferBegin = true,
  } = merged as SessionOptions
  const key = JSON.stringify([commit, readOnly, isolation, timeoutMs, acquireTimeoutMs, retries, deferBegin])
  let options = resolved.get(key)
  if (options === undefined) {
    options = Object.freeze({ commit, readOnly, isolation, timeoutMs, acquireTimeoutMs, retries, deferBegin, key })
    resolved.set(key, options)
  }
  return options
}

function isMilliseconds(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= 2_147_483_647
}
