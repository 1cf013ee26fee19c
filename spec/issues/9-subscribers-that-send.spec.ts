import { expect } from "chai"
import type { EntitySubscriberInterface, QueryRunner } from "typeorm"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

interface RunnerEvent {
  readonly queryRunner: QueryRunner
}

const EVENTS = [
  "beforeQuery",
  "afterQuery",
  "beforeTransactionStart",
  "afterTransactionStart",
  "beforeTransactionCommit",
  "beforeTransactionRollback",
] as const

/** A connection that is lost, or has another transaction open, shows at once in a pool of one. */
describeOnEach("A subscriber that sends statements", sessionDatabases, (database) => {
  const fixture = useSessions(database, { poolSize: 1, acquireTimeoutMs: 1_000 })
  const insert = (text: string) => `INSERT INTO note (text) VALUES ('${text}')`

  /** At the first `event` sends three statements, and does not wait for them unless told to. */
  function subscribe(event: string, isAwaited: boolean): Promise<string>[] {
    const sent: Promise<string>[] = []
    let hasSent = false
    const send = ({ queryRunner }: RunnerEvent) => {
      if (hasSent) return undefined
      hasSent = true
      const answers = [1, 2, 3].map((number) => queryRunner.query(insert(`sent ${number}`)))
      sent.push(
        ...answers.map((answer) =>
          answer.then(
            () => "answered",
            () => "refused",
          ),
        ),
      )
      return isAwaited ? Promise.all(answers) : undefined
    }
    fixture.dataSource.subscribers.push({ [event]: send } as EntitySubscriberInterface)
    return sent
  }

  for (const event of EVENTS) {
    for (const isAwaited of [true, false]) {
      it(`at ${event}${isAwaited ? "" : " without awaiting them"} stores none of a run() that throws`, async () => {
        const sent = subscribe(event, isAwaited)
        const failed = fixture.maker.run(async (db) => {
          await db.insert(Note, { text: "undone" })
          throw new Error("thrown by the work")
        })
        await expect(failed).to.be.rejectedWith("thrown by the work")
        await Promise.all(sent)
        if (sent.length === 0) fixture.dataSource.subscribers.pop()
        await fixture.maker.run((db) => db.insert(Note, { text: "next" }))
        expect(await fixture.texts()).to.deep.equal(["next"])
      })

      it(`at ${event}${isAwaited ? "" : " without awaiting them"} has them in the transaction that commits`, async () => {
        const sent = subscribe(event, isAwaited)
        await fixture.maker.run((db) => db.insert(Note, { text: "kept" }))
        expect(await Promise.all(sent)).to.not.include("refused")
        const count = (await fixture.texts()).length
        await fixture.maker.run((db) => db.insert(Note, { text: "next" }))
        expect(count).to.equal(1 + sent.length)
        expect(fixture.log.verbs().filter((verb) => verb === "BEGIN" || verb === "START")).to.have.length(2)
      })
    }
  }

  for (const end of ["commit", "rollback"] as const) {
    it(`in parallel after a ${end}() by hand has them in one new transaction`, async () => {
      const event = end === "commit" ? "afterTransactionCommit" : "afterTransactionRollback"
      const sent = subscribe(event, true)
      await fixture.maker.run(async (db) => {
        await db.insert(Note, { text: "first" })
        await db[end]()
      })
      expect(await Promise.all(sent)).to.deep.equal(["answered", "answered", "answered"])
      await fixture.maker.run((db) => db.insert(Note, { text: "next" }))
      expect(await fixture.texts()).to.have.length(end === "commit" ? 5 : 4)
    })
  }
})
