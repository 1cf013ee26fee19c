import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises"
import type { ServiceIdentifier } from "typedi"
import { SessionScopeError, SessionStateError } from "../errors"
import { findMaker } from "../request/session-request"
import type { Generation } from "../session/generation"
import { SessionMaker } from "../session/session-maker"
import type { UnitOfWork } from "../session/unit-of-work"
import { SandboxEngine } from "./sandbox-engine"

/** What is used of mocha's `this` in a hook. */
interface HookContext {
  readonly currentTest?: { readonly state?: string }
}

type HookFunction = (hook: (this: HookContext) => Promise<void>) => void

/** A response is sent before the session that only read has ended. */
const LEAVE_TIMEOUT_MS = 1_000
/** Such an end comes within a few ms, and a timer would make each spec wait longer. */
const SPIN_MS = 20
const LOOK_AGAIN_MS = 5

/**
 * Makes every spec of the enclosing `describe` run in one transaction that is rolled back after it. Every session of the maker,
 * those of requests over HTTP included, runs in a savepoint of it: `commit()` works, deferred constraints are checked at it,
 * and nothing stays. Sessions take turns. `isolation` and `readOnly` of a session have no effect in it.
 * @param maker the maker, or what the container has it under; default: the container's own, looked up before each spec
 * @throws {SessionStateError} from the hook after a spec, naming the sessions of it that are still open; they are closed
 * @throws {SessionScopeError} where there are no `beforeEach` and `afterEach`
 * @see Ecto's SQL sandbox and Rails' transactional tests: same purpose
 * @example
 * describe("users", () => {
 *   sandbox(maker)
 *   it("is empty again in the next spec", async () => {})
 * })
 */
export function sandbox(maker: SessionMaker | ServiceIdentifier<SessionMaker> = SessionMaker): void {
  const { beforeEach, afterEach } = globalThis as { beforeEach?: HookFunction; afterEach?: HookFunction }
  if (!beforeEach || !afterEach) {
    throw new SessionScopeError(
      "sandbox() needs a test runner with global beforeEach() and afterEach(), such as mocha.",
    )
  }
  let end: (() => Promise<readonly string[]>) | undefined
  beforeEach(async function startSandbox() {
    end = await start(maker instanceof SessionMaker ? maker : findMaker(maker))
  })
  afterEach(async function endSandbox() {
    const outlived = (await end?.()) ?? []
    end = undefined
    // The first error wins: a spec that failed may well have left something open.
    if (outlived.length === 0 || this.currentTest?.state === "failed") return
    throw new SessionStateError(
      `A session outlives its spec: ${outlived.join("; ")} was still open ${LEAVE_TIMEOUT_MS} ms after the spec had ended, ` +
        "and has been rolled back. Await the end of every request and run() in the spec.",
    )
  })
}

/** @returns what ends it, and says which sessions were still open */
async function start(maker: SessionMaker): Promise<() => Promise<readonly string[]>> {
  const generation = await maker.startedGeneration()
  const engine = await SandboxEngine.start(generation.engine)
  const restore = generation.replaceEngine(engine)
  // A session that was there before the spec need not end with it.
  const before = new Set(generation.units.all())
  return async () => {
    const outlived = await openAfterwards(generation, before)
    const names = outlived.map((unit) => unit.describe())
    await Promise.all(outlived.map((unit) => unit.cancel()))
    restore()
    await engine.end()
    return names
  }
}

async function openAfterwards(generation: Generation, before: ReadonlySet<UnitOfWork>): Promise<UnitOfWork[]> {
  const startedAt = performance.now()
  for (;;) {
    const open = generation.units.all().filter((unit) => !before.has(unit))
    const waitedMs = performance.now() - startedAt
    if (open.length === 0 || waitedMs > LEAVE_TIMEOUT_MS) return open
    await (waitedMs < SPIN_MS ? nextTurn() : sleep(LOOK_AGAIN_MS))
  }
}
