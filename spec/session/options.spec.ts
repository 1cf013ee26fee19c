import { setImmediate } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { expect } from "chai"
import { SessionOptionsError } from "../../src/errors"
import { assertSessionOptions, resolveSessionOptions, sameOptions } from "../../src/session/options"
import { SessionMaker, type SessionMakerOptions } from "../../src/session/session-maker"
import { httpEntities } from "../support/http-entities"

describe("resolveSessionOptions()", () => {
  it("keeps no more than a few of the combinations that were ever asked for", async () => {
    setFlagsFromString("--expose-gc")
    const collect: () => void = runInNewContext("gc")
    const used = () => {
      collect()
      return process.memoryUsage().heapUsed
    }
    resolveSessionOptions({ timeoutMs: 1 })
    const before = used()
    for (let timeoutMs = 1; timeoutMs <= 400_000; timeoutMs++) resolveSessionOptions({ timeoutMs })
    await setImmediate()
    expect((used() - before) / 1_000_000, "MB").to.be.below(4)
  })

  it("says the same for equal options, also where they are forgotten meanwhile", () => {
    const first = resolveSessionOptions({ retries: 3 }, { readOnly: true })
    expect(resolveSessionOptions({ readOnly: true, retries: 3 })).to.equal(first)
    for (let timeoutMs = 1; timeoutMs <= 1_000; timeoutMs++) resolveSessionOptions({ timeoutMs })
    const again = resolveSessionOptions({ readOnly: true, retries: 3 })
    expect(sameOptions(first, again)).to.equal(true)
    expect(sameOptions(first, resolveSessionOptions({ readOnly: true, retries: 2 }))).to.equal(false)
    expect(sameOptions(first, resolveSessionOptions({ retries: 3, readOnly: true, answerTimeoutMs: 1 }))).to.equal(
      false,
    )
  })

  it("waits 30 s for the answers to the session's own statements, where nothing else is said", () => {
    expect(resolveSessionOptions()).to.include({ answerTimeoutMs: 30_000, acquireTimeoutMs: 10_000 })
    expect(resolveSessionOptions({ answerTimeoutMs: 5 }, {})).to.include({ answerTimeoutMs: 5 })
    for (const answerTimeoutMs of [0, -1, 1.5, Number.POSITIVE_INFINITY]) {
      expect(() => assertSessionOptions({ answerTimeoutMs }, "here")).to.throw(SessionOptionsError, '"answerTimeoutMs"')
    }
  })

  it("takes resolveCommits from the maker's defaults only", () => {
    expect(resolveSessionOptions().resolveCommits).to.equal(false)
    expect(resolveSessionOptions({ resolveCommits: true }, {}).resolveCommits).to.equal(true)
    expect(resolveSessionOptions({}, { resolveCommits: true }).resolveCommits).to.equal(false)
    expect(sameOptions(resolveSessionOptions({ resolveCommits: true }), resolveSessionOptions())).to.equal(false)
  })
})

describe("the options of new SessionMaker()", () => {
  const make = (options: object, database?: string) => () =>
    new SessionMaker(database ?? "postgres://localhost/app", options as SessionMakerOptions)

  it("are checked when the maker is made: poolSize, names that nobody knows, session options", () => {
    expect(make({ poolSize: 0 })).to.throw(SessionOptionsError, 'new SessionMaker(): option "poolSize" must be')
    expect(make({ poolsize: 5 })).to.throw(SessionOptionsError, 'Did you mean "poolSize"?')
    expect(make({ acquireTimeout_ms: 5 })).to.throw(SessionOptionsError, 'Did you mean "acquireTimeoutMs"?')
    expect(make({ answerTimeoutMs: 0 })).to.throw(SessionOptionsError, '"answerTimeoutMs"')
    expect(make({ resolveCommit: true })).to.throw(SessionOptionsError, 'Did you mean "resolveCommits"?')
    expect(() => new SessionMaker({ type: "postgres", poolSize: -1 })).to.throw(SessionOptionsError, '"poolSize"')
    expect(make({ poolSize: 5, answerTimeoutMs: 5, timeoutMs: undefined, logging: true })).to.not.throw()
  })

  it("take resolveCommits on PostgreSQL, and refuse it elsewhere as soon as the database is known", async () => {
    expect(new SessionMaker("postgres://localhost/app", { resolveCommits: true }).sessionDefaults).to.deep.equal({
      resolveCommits: true,
    })
    expect(make({ resolveCommits: "yes" })).to.throw(SessionOptionsError, "true or false")
    for (const uri of ["mysql://localhost/app", "sqlite://", "cockroachdb://localhost/app"]) {
      expect(make({ resolveCommits: true }, uri)).to.throw(SessionOptionsError, "needs PostgreSQL")
    }
    const later = new SessionMaker(() => "sqlite://", { resolveCommits: true, entities: httpEntities })
    await expect(later.prepare()).to.be.rejectedWith(SessionOptionsError, '"better-sqlite3"')
  })
})
