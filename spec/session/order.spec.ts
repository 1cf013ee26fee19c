import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { takeIncidents } from "../support/incidents"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

describeOnEach("statements issued in parallel on one session", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("run one after another in the order issued, in one transaction, on one connection, without a warning", async () => {
    const expected = Array.from({ length: 10 }, (_, index) => `${index}`)
    await fixture.maker.run((session) => Promise.all(expected.map((text) => session.insert(Note, { text }))))
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", ...expected.map(() => "INSERT"), "COMMIT"])
    expect(await fixture.texts()).to.deep.equal(expected)
    if (fixture.wire) expect(new Set(fixture.wire.entries().map(({ connection }) => connection)).size).to.equal(1)
    expect(takeIncidents()).to.deep.equal([])
  })

  it("run before the commit of run() also where fn did not await them", async () => {
    const issued: Promise<unknown>[] = []
    await fixture.maker.run(async (session) => {
      for (const text of ["0", "1"]) issued.push(session.query(`INSERT INTO note (text) VALUES ('${text}')`))
    })
    await Promise.all(issued)
    expect(await fixture.texts()).to.deep.equal(["0", "1"])
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "INSERT", "COMMIT"])
  })

  it("are refused after the one that failed, and nothing of them is kept", async () => {
    const session = await fixture.maker.open()
    const results = await Promise.allSettled([
      session.insert(Note, { text: "same" }),
      session.insert(Note, { text: "same" }),
      session.insert(Note, { text: "other" }),
    ])
    await session.close()
    expect(results.map(({ status }) => status)).to.deep.equal(["fulfilled", "rejected", "rejected"])
    expect(results[2]).to.have.nested.property("reason.code", "ERR_SESSION_TRANSACTION_ABORTED")
    expect(results[2]).to.have.nested.property("reason.cause.name", "QueryFailedError")
    // An error of MySQL comes without the status of the transaction, so that the server is asked: a deadlock would have ended it.
    const question = database.kind === "mysql" ? ["DO"] : []
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "INSERT", ...question, "ROLLBACK"])
    expect(await fixture.texts()).to.deep.equal([])
  })
})
