import { expect } from "chai"
import { resolveSessionOptions } from "../../src/session/options"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

const postgres = sessionDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("a session before its first statement", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("sends nothing and takes no connection", async () => {
    const { size } = fixture.maker.stats().pool
    await fixture.maker.run(async (session) => {
      expect(session.inTransaction).to.equal(false)
      expect(session.getRepository(Note).metadata.name).to.equal("Note")
      session.createQueryBuilder(Note, "note").where("note.id = 1").getQuery()
      expect(fixture.maker.stats()).to.include({ open: 1, active: 0, idle: 1 })
    })
    expect(fixture.log.statements()).to.deep.equal([])
    expect(fixture.maker.stats()).to.deep.include({ open: 0, committed: 0, rolledBack: 0 })
    expect(fixture.maker.stats().pool.size).to.equal(size)
  })

  it("sends nothing for an empty transaction() block, commit() and rollback()", async () => {
    await fixture.maker.run(async (session) => {
      await session.transaction(async () => {
        await session.transaction(async () => undefined)
      })
      await session.commit()
      await session.rollback()
    })
    expect(fixture.log.statements()).to.deep.equal([])
  })

  it("builds no DataSource in a maker that is not used", async () => {
    const maker = fixture.makeMaker()
    expect(maker.stats()).to.deep.include({ open: 0, pool: { size: 0, max: 0 } })
    await maker.close()
    expect(fixture.log.statements()).to.deep.equal([])
  })
})

describeOnEach("a session at its first statement", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("begins, once, and commits at the end of run()", async () => {
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      expect(session.inTransaction).to.equal(true)
      expect(await session.count(Note)).to.equal(1)
    })
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "SELECT", "COMMIT"])
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  it("rolls back when fn of run() rejects", async () => {
    const failure = new Error("no")
    const run = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      throw failure
    })
    await expect(run).to.be.rejectedWith(failure)
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "ROLLBACK"])
    expect(await fixture.texts()).to.deep.equal([])
  })
})

describeOnEach("the begin of a session", postgres, (database) => {
  // A plain read would need no begin.
  const fixture = useSessions(database, { deferBegin: false })
  // Nothing a client in this process can do is as fast as a delay this long is slow.
  const delayMs = 10

  beforeEach(async () => {
    await fixture.maker.run((session) => session.query("SELECT 1"))
    fixture.log.clear()
    fixture.wire.setDelay(delayMs)
  })

  it("travels with the first statement in one round trip", async () => {
    await fixture.maker.run((session) => session.findBy(Note, { id: 1 }))
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "COMMIT"])
    expect(fixture.wire.flights()).to.equal(2)
  })

  it("takes isolation, read only, timeout and variables along in the same round trip", async () => {
    const options = resolveSessionOptions({ isolation: "REPEATABLE READ", readOnly: true, timeoutMs: 1234 })
    const context = {
      asWriter: false,
      label: () => "spec",
      report: () => undefined,
      variables: () => ({ "app.user": "O'Brien \\ $1 ; x", "app.empty": "" }),
    }
    const session = await fixture.maker.openWith(options, context)
    const [row] = await session.query(
      `SELECT current_setting('transaction_isolation') AS isolation, current_setting('transaction_read_only') AS read_only,
        current_setting('statement_timeout') AS timeout, current_setting('app.user') AS app_user, $1::int AS given`,
      [7],
    )
    expect(fixture.wire.flights()).to.equal(1)
    await session.close()
    expect(row).to.deep.equal({
      isolation: "repeatable read",
      read_only: "on",
      timeout: "1234ms",
      app_user: "O'Brien \\ $1 ; x",
      given: 7,
    })
    const [after] = await fixture.maker.run((next) =>
      next.query(
        "SELECT current_setting('statement_timeout') AS timeout, current_setting('app.user', true) AS app_user",
      ),
    )
    expect(after).to.deep.equal({ timeout: "0", app_user: "" })
  })

  it("takes the savepoints of the blocks along, too", async () => {
    await fixture.maker.run((session) =>
      session.transaction((outer) => outer.transaction((inner) => inner.query("SELECT 1"))),
    )
    expect(fixture.log.verbs()).to.deep.equal([
      "BEGIN",
      "SAVEPOINT",
      "SAVEPOINT",
      "SELECT",
      "RELEASE",
      "RELEASE",
      "COMMIT",
    ])
    expect(fixture.wire.flights()).to.equal(4)
  })

  it("does not put what one text with several statements returns in the place of another", async () => {
    const rows = await fixture.maker.run((session) => session.query("SELECT 1 AS a; SELECT 2 AS b"))
    expect(rows).to.deep.equal([[{ a: 1 }], [{ b: 2 }]])
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "SELECT", "COMMIT"])
  })

  it("leaves an empty first statement alone", async () => {
    expect(await fixture.maker.run((session) => session.query(""))).to.deep.equal([])
  })

  it("cancels a first statement that takes longer than timeoutMs", async () => {
    const slow = fixture.maker.run((session) => session.query("SELECT pg_sleep(10)"), { timeoutMs: 50 })
    await expect(slow).to.be.rejectedWith("statement timeout")
  })

  it("refuses writes of a readOnly session in the database", async () => {
    const write = fixture.maker.run((session) => session.insert(Note, { text: "a" }), { readOnly: true })
    await expect(write).to.be.rejectedWith("read-only transaction")
  })
})
