import { expect } from "chai"
import { AcquireTimeoutError } from "../../src/errors"
import { describeOnEach, testDatabases } from "../support/databases"
import { Note, useSessions } from "../support/session-fixture"

const servers = testDatabases.filter(({ kind }) => kind !== "sqlite")

describeOnEach("A transaction() block whose end waits longer than acquireTimeoutMs", servers, (database) => {
  const fixture = useSessions(database, { acquireTimeoutMs: 300 })
  const slow = database.kind === "mysql" ? "SELECT SLEEP(0.6)" : "SELECT pg_sleep(0.6)"

  for (const ends of ["throws", "returns"]) {
    it(`is undone when its statement has ended, and the session goes on (it ${ends})`, async () => {
      const outcomes: string[] = []
      let last: Promise<unknown> | undefined
      await fixture.maker.run(async (db) => {
        await db.insert(Note, { text: "before" })
        const block = db.transaction(async (inner) => {
          inner.afterCompletion((outcome) => void outcomes.push(outcome))
          await inner.insert(Note, { text: "in the block" })
          last = inner.query(slow)
          if (ends === "throws") throw new Error("thrown in the block")
        })
        if (ends === "throws") await expect(block).to.be.rejectedWith("thrown in the block")
        else await expect(block).to.be.rejectedWith(AcquireTimeoutError, "the end of a transaction() block")
        await last
        await db.insert(Note, { text: "after" })
      })
      expect(await fixture.texts()).to.deep.equal(["before", "after"])
      expect(outcomes).to.deep.equal(["rolled back"])
    })

    it(`lets go of a result stream that nobody reads, and the session goes on (it ${ends})`, async () => {
      await fixture.maker.run(async (db) => {
        await db.insert(Note, { text: "before" })
        const block = db.transaction(async (inner) => {
          await inner.insert(Note, { text: "in the block" })
          await inner.createQueryBuilder(Note, "note").stream()
          if (ends === "throws") throw new Error("thrown in the block")
        })
        if (ends === "throws") await expect(block).to.be.rejectedWith("thrown in the block")
        else await expect(block).to.be.rejectedWith(AcquireTimeoutError, "a result stream was running")
        await db.insert(Note, { text: "after" })
      })
      expect(await fixture.texts()).to.deep.equal(["before", "after"])
    })
  }
})
