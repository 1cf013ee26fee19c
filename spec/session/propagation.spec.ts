import { expect } from "chai"
import { Container } from "typedi"
import { SessionOptionsError, SessionStateError } from "../../src/errors"
import { currentSession, tryCurrentSession } from "../../src/request/current-session"
import { SessionMaker } from "../../src/session/session-maker"
import { describeOnEach, testDatabases } from "../support/databases"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { Note, useSessions } from "../support/session-fixture"

/** Databases on which one session can write while another has written. */
const withRowLocks = testDatabases.filter(({ kind }) => kind !== "sqlite")

describeOnEach("maker.run({ propagation })", testDatabases, (testDatabase) => {
  const fixture = useSessions(testDatabase)
  beforeEach(() => Container.set(SessionMaker, fixture.maker))
  afterEach(() => Container.remove(SessionMaker))

  it("makes its session what currentSession() is inside, across awaits, and nothing outside", async () => {
    await fixture.maker.run(async (db) => {
      await new Promise(setImmediate)
      expect(currentSession()).to.equal(db)
    })
    expect(tryCurrentSession()).to.equal(undefined)
  })

  it('"join" takes the session in use, and leaves its end to whoever has it', async () => {
    await expect(
      fixture.maker.run(async (outer) => {
        const inner = await fixture.maker.run(
          async (db) => {
            await db.save(Note, { text: "joined" })
            return db
          },
          { propagation: "join" },
        )
        expect(inner).to.equal(outer)
        expect([inner.closed, inner.inTransaction]).to.deep.equal([false, true])
        throw new Error("undone")
      }),
    ).to.be.rejectedWith("undone")
    expect(await fixture.texts()).to.deep.equal([])
  })

  it('"join" is a session of its own where there is none', async () => {
    await fixture.maker.run((db) => db.save(Note, { text: "alone" }), { propagation: "join" })
    expect(await fixture.texts()).to.deep.equal(["alone"])
  })

  it('"join" refuses options that the session in use does not have', async () => {
    await fixture.maker.run(async () => {
      await expect(
        fixture.maker.run(async () => undefined, { propagation: "join", readOnly: true }),
      ).to.be.rejectedWith(SessionOptionsError, "readOnly")
      await fixture.maker.run(async () => undefined, { propagation: "join", readOnly: false })
    })
  })

  it('"never" refuses where a session is in use, and runs where none is', async () => {
    await fixture.maker.run(async () => {
      await expect(fixture.maker.run(async () => undefined, { propagation: "never" })).to.be.rejectedWith(
        SessionStateError,
        '"never"',
      )
    })
    expect(await fixture.maker.run(async () => 42, { propagation: "never" })).to.equal(42)
  })

  it("refuses a propagation that there is not", async () => {
    await expect(fixture.maker.run(async () => 1, { propagation: "always" as never })).to.be.rejectedWith(
      SessionOptionsError,
      "one of new, join, never",
    )
  })
})

describeOnEach('maker.run({ propagation: "new" })', withRowLocks, (testDatabase) => {
  const fixture = useSessions(testDatabase)

  it("has work of its own that stays when the outer one is rolled back, and the other way round", async () => {
    await expect(
      fixture.maker.run(async (outer) => {
        await outer.save(Note, { text: "outer" })
        await fixture.maker.run((own) => own.save(Note, { text: "audit" }))
        const failing = fixture.maker.run(async (own) => {
          await own.save(Note, { text: "undone" })
          throw new Error("inner")
        })
        await expect(failing).to.be.rejectedWith("inner")
        expect(await outer.countBy(Note, { text: "outer" })).to.equal(1)
        throw new Error("outer")
      }),
    ).to.be.rejectedWith("outer")
    expect(await fixture.texts()).to.deep.equal(["audit"])
  })
})

describeOnEach("maker.run({ propagation }) in a request", withRowLocks, (testDatabase) => {
  let app: SessionApp
  beforeEach(async () => {
    app = await startSessionApp(testDatabase, { sessions: { ambient: true } })
  })
  afterEach(() => app.stop())

  it('"new" leaves an audit row of a request that is rolled back; currentSession() in it is its own', async () => {
    app.work = async (db) => {
      await db.save(Note, { text: "request" })
      await app.maker.run(async (own) => {
        expect(currentSession()).to.equal(own)
        await own.save(Note, { text: "audit" })
      })
      expect(currentSession()).to.equal(db)
      throw new Error("failed")
    }
    expect((await app.http.post("/json")).status).to.equal(500)
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([{ text: "audit" }])
  })

  it('"join" is the request\'s session, and "never" refuses beside it', async () => {
    app.work = async (db) => {
      const joined = await app.maker.run(async (own) => own, { propagation: "join" })
      const refused = await app.maker
        .run(async () => "ran", { propagation: "never" })
        .catch((error: Error) => error.name)
      return { same: joined === db, closed: joined.closed, refused }
    }
    expect((await app.http.post("/json")).json()).to.deep.equal({
      same: true,
      closed: false,
      refused: "SessionStateError",
    })
  })
})
