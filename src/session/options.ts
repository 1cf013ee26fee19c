import type { IsolationLevel } from "../engine/connection"
import { SessionOptionsError } from "../errors"
import { assertDataSourceOptions } from "../settings/data-source-option-names"

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
  /** ms, longest a statement may run: in the database, where it can be told, and at the client one second later; default none */
  readonly timeoutMs?: number
  /** ms, longest wait for the answer to what the session itself sends: BEGIN, savepoints, COMMIT, ROLLBACK; default 30 000 */
  readonly answerTimeoutMs?: number
  /**
   * ms, longest wait for a connection, everything that happens in it included; also for a turn in the session's own queue;
   * default 10 000
   */
  readonly acquireTimeoutMs?: number
  /**
   * how often the whole action is run again after a serialization failure or deadlock, or a connection lost before COMMIT was
   * sent; default 0
   */
  readonly retries?: number
  /**
   * whether plain reads before anything else are sent without a transaction, where that means the same; default true.
   * false: the begin goes with the first statement in any case. `docs/sessions.md` says what differs.
   */
  readonly deferBegin?: boolean
}

/** What a maker takes as defaults of its sessions. */
export interface SessionDefaults extends SessionOptions {
  /**
   * whether the database is asked what became of a COMMIT whose answer never came, over another connection; PostgreSQL only;
   * default false
   */
  readonly resolveCommits?: boolean
}

/** Session options with every default filled in; frozen. Compared by `sameOptions()`. */
export interface ResolvedSessionOptions {
  readonly commit: CommitTiming
  readonly readOnly: boolean
  readonly isolation: IsolationLevel | undefined
  readonly timeoutMs: number | undefined
  readonly answerTimeoutMs: number
  readonly acquireTimeoutMs: number
  readonly retries: number
  readonly deferBegin: boolean
  readonly resolveCommits: boolean
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
  "answerTimeoutMs",
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
  const { commit, readOnly, isolation, retries, deferBegin } = options
  if (commit !== undefined && !TIMINGS.includes(commit)) refuse("commit", `one of ${TIMINGS.join(", ")}`)
  if (readOnly !== undefined && typeof readOnly !== "boolean") refuse("readOnly", "true or false")
  if (deferBegin !== undefined && typeof deferBegin !== "boolean") refuse("deferBegin", "true or false")
  if (isolation !== undefined && !ISOLATION_LEVELS.includes(isolation)) {
    refuse("isolation", `one of ${ISOLATION_LEVELS.join(", ")}`)
  }
  for (const name of ["timeoutMs", "answerTimeoutMs", "acquireTimeoutMs"] as const) {
    const value = options[name]
    if (value !== undefined && !isMilliseconds(value)) refuse(name, "a whole number of ms above 0")
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

/**
 * Checks what a maker is given as defaults of its sessions.
 * @param databaseType TypeORM's name, where it is known already
 * @throws {SessionOptionsError} as `assertSessionOptions()`, and for `resolveCommits` on a database that cannot be asked
 */
export function assertSessionDefaults(
  defaults: SessionDefaults,
  databaseType: string | undefined,
  where: string,
): void {
  assertSessionOptions(defaults, where)
  const { resolveCommits } = defaults
  if (resolveCommits !== undefined && typeof resolveCommits !== "boolean") {
    throw new SessionOptionsError(`${where}: option "resolveCommits" must be true or false.`)
  }
  if (resolveCommits && databaseType !== undefined && databaseType !== "postgres") {
    throw new SessionOptionsError(
      `${where}: option "resolveCommits" needs PostgreSQL, and the database is "${databaseType}", which cannot be asked for the ` +
        "outcome of a transaction. Leave it out.",
    )
  }
}

const SESSION_DEFAULT_NAMES: readonly (keyof SessionDefaults)[] = [...SESSION_OPTION_NAMES, "resolveCommits"]

/**
 * Tells the defaults of sessions from the TypeORM options that a maker is given beside them. The values of the defaults are for
 * `assertSessionDefaults()` to check.
 * @throws {SessionOptionsError} for names that nobody knows, and as `assertDataSourceOptions()`
 */
export function splitMakerOptions<Overrides extends object>(
  options: SessionDefaults & Overrides,
  where: string,
): { defaults: SessionDefaults; overrides: Overrides } {
  assertDataSourceOptions(options, SESSION_DEFAULT_NAMES, where)
  const defaults: Record<string, unknown> = {}
  const overrides = { ...options }
  for (const name of SESSION_DEFAULT_NAMES) {
    if (name in options) defaults[name] = options[name]
    Reflect.deleteProperty(overrides, name)
  }
  return { defaults, overrides }
}

/** So many combinations are kept, each once; programs have a handful, but an option may come from a request. */
const MAX_KEPT = 200
const kept = new Map<string, ResolvedSessionOptions>()

/** @param layers from the most general, which is the maker's, to the most particular; a later one wins */
export function resolveSessionOptions(
  ...layers: readonly ((SessionOptions & Pick<SessionDefaults, "resolveCommits">) | undefined)[]
): ResolvedSessionOptions {
  const merged: Record<string, unknown> = {}
  for (const layer of layers) {
    for (const name of SESSION_OPTION_NAMES) if (layer?.[name] !== undefined) merged[name] = layer[name]
  }
  const {
    commit = "auto",
    readOnly = false,
    isolation,
    timeoutMs,
    answerTimeoutMs = 30_000,
    acquireTimeoutMs = 10_000,
    retries = 0,
    deferBegin = true,
  } = merged as SessionOptions
  // The maker's alone: `SESSION_OPTION_NAMES` does not have it.
  const resolveCommits = layers[0]?.resolveCommits ?? false
  // Asked for at every `run()`; what the values are was checked, so that no two combinations are written alike.
  const times = `${timeoutMs} ${answerTimeoutMs} ${acquireTimeoutMs}`
  const key = `${commit} ${readOnly} ${times} ${retries} ${deferBegin} ${resolveCommits} ${isolation}`
  const known = kept.get(key)
  if (known !== undefined) return known
  const options = Object.freeze({
    commit,
    readOnly,
    isolation,
    timeoutMs,
    answerTimeoutMs,
    acquireTimeoutMs,
    retries,
    deferBegin,
    resolveCommits,
    key,
  })
  if (kept.size >= MAX_KEPT) kept.delete(kept.keys().next().value ?? "")
  kept.set(key, options)
  return options
}

/** Whether two resolved sets of options say the same; the objects may differ. */
export function sameOptions(one: ResolvedSessionOptions, other: ResolvedSessionOptions): boolean {
  return one === other || one.key === other.key
}

function isMilliseconds(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= 2_147_483_647
}
