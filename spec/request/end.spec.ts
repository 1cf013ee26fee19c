import { expect } from "chai"
import { decideEnd, decideLate, type End, type SessionFacts } from "../../src/request/end"

type Timing = SessionFacts["commit"]

/** timing, matters, open stream, used by the body -> end of an action that went well */
const table: readonly [Timing, boolean, boolean, boolean, End][] = [
  ["auto", false, false, false, "commit in background"],
  ["auto", false, false, true, "commit in background"],
  ["auto", true, false, false, "commit"],
  ["auto", true, false, true, "commit"],
  ["auto", false, true, true, "leave"],
  ["auto", true, true, true, "leave"],
  ["before-response", false, false, false, "commit"],
  ["before-response", true, false, true, "commit"],
  ["before-response", false, true, true, "leave"],
  ["after-response", false, false, false, "leave"],
  ["after-response", true, true, true, "leave"],
  ["manual", true, false, false, "close"],
  ["manual", false, false, false, "close"],
  ["manual", true, false, true, "leave"],
]

describe("decideEnd()", () => {
  for (const [commit, matters, hasOpenStream, isUsedByBody, end] of table) {
    const facts = { commit, matters, hasOpenStream, isUsedByBody }
    it(`says "${end}" for ${JSON.stringify(facts)}`, () => {
      expect(decideEnd("commit", facts)).to.equal(end)
    })
  }

  it("closes whatever is to be rolled back", () => {
    for (const [commit, matters, hasOpenStream, isUsedByBody] of table) {
      expect(decideEnd("rollback", { commit, matters, hasOpenStream, isUsedByBody })).to.equal("close")
    }
  })
})

describe("decideLate()", () => {
  it("commits what went well, but for manual sessions", () => {
    const timings: readonly Timing[] = ["auto", "before-response", "after-response", "manual"]
    expect(timings.map((timing) => decideLate("commit", timing))).to.deep.equal(["commit", "commit", "commit", "close"])
    expect(timings.map((timing) => decideLate("rollback", timing))).to.deep.equal(["close", "close", "close", "close"])
  })
})
