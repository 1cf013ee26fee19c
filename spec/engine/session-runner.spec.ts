import { expect } from "chai"
import { QueryResult } from "typeorm"
import { createSessionRunner, type RunnerHost } from "../../src/engine/session-runner"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

describeOnEach("createSessionRunner()", sessionDatabases, (database) => {
  const fixture = useSessions(database)
  let asked: string[]
  let host: RunnerHost

  beforeEach(() => {
    asked = []
    host = {
      async query(text) {
        asked.push(text)
        return new QueryResult()
      },
      async client() {
        asked.push("client")
      },
      async stream() {
        throw new Error("No specification needs one.")
      },
      async startTransaction() {
        asked.push("start")
      },
      async commitTransaction() {
        asked.push("commit")
      },
      async rollbackTransaction() {
        asked.push("rollback")
      },
    }
  })

  function manager() {
    return fixture.dataSource.createEntityManager(createSessionRunner(fixture.dataSource, host, false))
  }

  it("extends TypeORM's own runner of the database, and looks like it", () => {
    const runner = createSessionRunner(fixture.dataSource, host, false)
    expect(runner).to.be.instanceOf(fixture.dataSource.driver.createQueryRunner("master").constructor)
    expect(runner.isTransactionActive).to.equal(true)
    expect(runner.isReleased).to.equal(false)
  })

  it("sends every statement through its host, and none by itself", async () => {
    await manager().find(Note)
    await manager().query("SELECT 1")
    await manager()
      .createQueryBuilder(Note, "note")
      .getCount()
      .catch(() => undefined)
    await manager()
      .clear(Note)
      .catch(() => undefined)
    await manager()
      .queryRunner?.hasTable("note")
      .catch(() => undefined)
    expect(asked.length).to.be.at.least(5)
    expect(fixture.log.statements()).to.deep.equal([])
  })

  it("makes persistence join, and not begin", async () => {
    await manager()
      .save([manager().create(Note, { text: "a" }), manager().create(Note, { text: "b" })])
      .catch(() => undefined)
    await manager().createQueryBuilder().update(Note).set({ text: "c" }).useTransaction(true).execute()
    expect(asked.join(" ")).to.match(/INSERT.*UPDATE/s)
    expect(asked).to.not.include.members(["start"])
    expect(asked.join(" ")).to.not.match(/start|commit|rollback|BEGIN|TRANSACTION/)
    expect(fixture.log.statements()).to.deep.equal([])
  })

  it("hands transactions by hand to its host", async () => {
    const runner = createSessionRunner(fixture.dataSource, host, false)
    await runner.startTransaction()
    await runner.commitTransaction()
    await runner.startTransaction()
    await runner.rollbackTransaction()
    expect(asked).to.deep.equal(["start", "commit", "start", "rollback"])
  })

  it("gives nothing back when it is released or disposed of", async () => {
    const runner = createSessionRunner(fixture.dataSource, host, false)
    await runner.release()
    await runner[Symbol.asyncDispose]()
    expect(asked).to.deep.equal([])
    expect(runner.isReleased).to.equal(false)
    expect(fixture.log.statements()).to.deep.equal([])
  })
})
