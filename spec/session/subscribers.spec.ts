import { expect } from "chai"
import type { EntitySubscriberInterface, QueryRunner } from "typeorm"
import type { SessionMaker } from "../../src/session/session-maker"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

interface TransactionEvent {
  readonly queryRunner: QueryRunner
}

describeOnEach("TypeORM subscribers of a session's transaction", sessionDatabases, (database) => {
  const fixture = useSessions(database, { poolSize: 1 })
  const insert = (text: string) => `INSERT INTO note (text) VALUES ('${text}')`

  async function subscribe(subscriber: EntitySubscriberInterface): Promise<SessionMaker> {
    fixture.dataSource.subscribers.push(subscriber)
    return fixture.maker
  }

  it("hear begin, commit and rollback in order", async () => {
    const events: string[] = []
    const maker = await subscribe({
      beforeTransactionStart: () => void events.push("before start"),
      afterTransactionStart: () => void events.push("after start"),
      beforeTransactionCommit: () => void events.push("before commit"),
      afterTransactionCommit: () => void events.push("after commit"),
      beforeTransactionRollback: () => void events.push("before rollback"),
      afterTransactionRollback: () => void events.push("after rollback"),
    })
    await maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      await session.commit()
      await session.insert(Note, { text: "b" })
      await session.rollback()
    })
    const start = ["before start", "after start"]
    expect(events).to.deep.equal([
      ...start,
      "before commit",
      "after commit",
      ...start,
      "before rollback",
      "after rollback",
    ])
  })

  it("may send statements before the commit, which are a part of it", async () => {
    const maker = await subscribe({
      beforeTransactionStart: async ({ queryRunner }: TransactionEvent) => queryRunner.query(insert("start")),
      beforeTransactionCommit: async ({ queryRunner }: TransactionEvent) => {
        await Promise.all([queryRunner.query(insert("audit 1")), queryRunner.query(insert("audit 2"))])
      },
    })
    await maker.run((session) => session.insert(Note, { text: "a" }))
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "INSERT", "INSERT", "INSERT", "COMMIT"])
    expect(await fixture.texts()).to.deep.equal(["start", "a", "audit 1", "audit 2"])
  })

  it("may use the session after a commit by hand", async () => {
    const events: unknown[] = []
    const maker = await subscribe({
      afterTransactionCommit: async ({ queryRunner }: TransactionEvent) => {
        if (events.length === 0) events.push(await queryRunner.query("SELECT text FROM note"))
      },
    })
    await maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      await session.commit()
      await session.insert(Note, { text: "b" })
    })
    expect(events).to.deep.equal([[{ text: "a" }]])
    expect(await fixture.texts()).to.deep.equal(["a", "b"])
  })

  it("forbid the commit by throwing before it, and the connection is given back clean", async () => {
    const failure = new Error("forbidden")
    const maker = await subscribe({
      beforeTransactionCommit: async () => {
        throw failure
      },
    })
    await expect(maker.run((session) => session.insert(Note, { text: "a" }))).to.be.rejectedWith(failure)
    fixture.dataSource.subscribers.pop()
    await maker.run((session) => session.insert(Note, { text: "b" }))
    expect(await fixture.texts()).to.deep.equal(["b"])
    expect(maker.stats()).to.include({ open: 0, committed: 1, rolledBack: 0, failed: 1 })
  })

  it("change nothing by throwing after the end or before a rollback", async () => {
    const fail = async () => {
      throw new Error("too late")
    }
    const maker = await subscribe({
      afterTransactionCommit: fail,
      beforeTransactionRollback: fail,
      afterTransactionRollback: fail,
    })
    await maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      await session.commit()
      await session.insert(Note, { text: "b" })
      await session.rollback()
      await session.insert(Note, { text: "c" })
    })
    expect(await fixture.texts()).to.deep.equal(["a", "c"])
    expect(maker.stats()).to.include({ open: 0, committed: 2, rolledBack: 1, failed: 0 })
  })
})
