import { expect } from "chai"
import { describeOnEach, testDatabases } from "../support/databases"
import { Note, useSessions } from "../support/session-fixture"

describeOnEach("queryRunner.startTransaction() in a transaction() block", testDatabases, (database) => {
  const fixture = useSessions(database, { acquireTimeoutMs: 500 })

  for (const begins of ["outer", "inner"] as const) {
    for (const ends of ["commitTransaction", "rollbackTransaction"] as const) {
      it(`by the ${begins} variable takes what either variable sends, up to ${ends}()`, async () => {
        await fixture.maker.run(async (db) => {
          await db.transaction(async (block) => {
            const runner = (begins === "outer" ? db : block).queryRunner
            await runner?.startTransaction()
            await db.insert(Note, { text: "by outer" })
            await block.insert(Note, { text: "by inner" })
            await runner?.[ends]()
            await db.insert(Note, { text: "in the block" })
          })
        })
        const byHand = ends === "commitTransaction" ? ["by outer", "by inner"] : []
        expect(await fixture.texts()).to.deep.equal([...byHand, "in the block"])
      })
    }
  }
})
