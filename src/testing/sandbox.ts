import type { ServiceIdentifier } from "typedi"
import { SessionScopeError } from "../errors"
import { findMaker } from "../request/session-request"
import { SessionMaker } from "../session/session-maker"
import { SandboxEngine } from "./sandbox-engine"

type HookFunction = (hook: () => Promise<void>) => void

/**
 * Makes every spec of the enclosing `describe` run in one transaction that is rolled back after it. Every session of the maker,
 * those of requests over HTTP included, runs in a savepoint of it: `commit()` works, deferred constraints are checked at it,
 * and nothing stays. Sessions take turns. `isolation` and `readOnly` of a session have no effect in it.
 * @param maker the maker, or what the container has it under; default: the container's own, looked up before each spec
 * @throws {SessionStateError} from the hook after a spec, where a session of it is still in a transaction
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
  let end: (() => Promise<void>) | undefined
  beforeEach(async function startSandbox() {
    const found = maker instanceof SessionMaker ? maker : findMaker(maker)
    const generation = await found.startedGeneration()
    const engine = await SandboxEngine.start(generation.engine)
    const restore = generation.replaceEngine(engine)
    end = async () => {
      restore()
      await engine.end()
    }
  })
  afterEach(async function endSandbox() {
    const ending = end?.()
    end = undefined
    await ending
  })
}
