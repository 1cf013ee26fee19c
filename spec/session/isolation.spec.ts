import { expect } from "chai"
import type { Context } from "koa"
import { Ctx, JsonController, Post } from "routing-controllers"
import { Session } from "../../src/decorators/session"
import { SessionOptionsError } from "../../src/errors"
import type { SessionOptions } from "../../src/session/options"
import { SessionMaker } from "../../src/session/session-maker"
import { within } from "../reliability/support/within"
import { describeOnEach } from "../support/databases"
import { httpEntities, Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { sessionDatabases } from "../support/session-databases"
import { useSessions } from "../support/session-fixture"

type Isolation = NonNullable<SessionOptions["isolation"]>

/** Nothing may wait for ever. */
const soon = async <T>(coming: PromiseLike<T>): Promise<T> => (await within(3_000, "an answer", coming)).value

/** TypeORM knows it, and it depends on the database whether there is one of that name: none of these has it. */
const NOT_THERE: Isolation = "SNAPSHOT"

let isUsedAfterwards = ""

@JsonController("/isolated")
class IsolatedController {
  @Post("/")
  async post(@Session({ isolation: NOT_THERE }) db: Session, @Ctx() ctx: Context): Promise<object> {
    await expect(db.insert(Note, { text: "refused" })).to.be.rejectedWith(SessionOptionsError)
    await db.rollback()
    isUsedAfterwards = `${db.inTransaction} ${db.closed}`
    return { path: ctx.path }
  }
}

describeOnEach("an isolation level that is refused", sessionDatabases, (database) => {
  const fixture = useSessions(database)
  const levels: readonly Isolation[] = [
    NOT_THERE,
    ...(database.kind === "sqlite" ? (["REPEATABLE READ", "READ COMMITTED"] as const) : []),
    "READ SIDEWAYS" as Isolation,
    "SERIALIZABLE; INSERT INTO note (text) VALUES ('smuggled')" as Isolation,
  ]

  for (const level of levels) {
    for (const isStarted of [true, false]) {
      it(`in transaction() leaves the session usable: ${level}, of a maker that ${isStarted ? "has" : "has not"} started`, async () => {
        const maker = isStarted || database.isFile === false ? fixture.maker : fixture.makeMaker()
        const session = await maker.open()
        const block = session.transaction(level, (inner) => inner.insert(Note, { text: "lost" }))
        await expect(soon(block)).to.be.rejectedWith(SessionOptionsError, level)
        await session.insert(Note, { text: "kept" })
        await session.commit()
        await session.close()
        if (maker !== fixture.maker) await maker.close()
        expect(await fixture.texts()).to.deep.equal(["kept"])
      })
    }

    for (const end of ["rollback", "commit", "close"] as const) {
      it(`in transaction() leaves ${end}() to work: ${level}`, async () => {
        const session = await fixture.maker.open()
        const block = session.transaction(level, (inner) => inner.insert(Note, { text: "lost" }))
        await expect(soon(block)).to.be.rejectedWith(SessionOptionsError)
        await soon(session[end]())
        expect(session.inTransaction).to.equal(false)
        if (end !== "close") await session.insert(Note, { text: "kept" })
        if (end !== "close") await session.commit()
        await session.close()
        expect(await fixture.texts()).to.deep.equal(end === "close" ? [] : ["kept"])
      })
    }

    it(`in startTransaction() by hand leaves rollbackTransaction() to work: ${level}`, async () => {
      const session = await fixture.maker.open()
      const { queryRunner } = session
      const byHand = async () => {
        await queryRunner?.startTransaction(level)
        await session.insert(Note, { text: "lost" })
      }
      await expect(soon(byHand())).to.be.rejectedWith(SessionOptionsError)
      await queryRunner?.rollbackTransaction()
      await session.insert(Note, { text: "kept" })
      await session.commit()
      await session.rollback()
      await session.close()
      expect(await fixture.texts()).to.deep.equal(["kept"])
    })
  }

  it("in the session's own options refuses each statement, and neither rollback() nor the end", async () => {
    const session = await fixture.maker.open({ isolation: NOT_THERE })
    for (let time = 0; time < 2; time++) {
      await expect(soon(session.insert(Note, { text: "lost" }))).to.be.rejectedWith(SessionOptionsError, NOT_THERE)
      await soon(session.rollback())
    }
    await expect(soon(session.transaction((inner) => inner.insert(Note, { text: "lost" })))).to.be.rejectedWith(
      SessionOptionsError,
    )
    await soon(session.rollback())
    await soon(session.commit())
    expect(session.inTransaction).to.equal(false)
    await session.close()
    expect(fixture.log.statements()).to.deep.equal([])
    expect(await fixture.texts()).to.deep.equal([])
  })

  it("in the options of a maker whose database is not known before is refused as well", async () => {
    const maker = new SessionMaker(() => fixture.database.uri, { entities: httpEntities })
    const run = maker.run((session) => session.insert(Note, { text: "lost" }), { isolation: NOT_THERE })
    await expect(soon(run)).to.be.rejectedWith(SessionOptionsError, NOT_THERE)
    const session = await maker.open({ isolation: NOT_THERE })
    await expect(soon(session.query("SELECT 1"))).to.be.rejectedWith(SessionOptionsError)
    await soon(session.rollback())
    await session.close()
    expect(maker.stats()).to.include({ open: 0, active: 0 })
    await maker.close()
  })
})

describeOnEach("@Session() with an isolation level that the database has not", sessionDatabases, (database) => {
  let app: SessionApp
  beforeEach(async () => {
    app = await startSessionApp(database, { controllers: [IsolatedController] })
  })
  afterEach(() => app.stop())

  it("refuses the statements, leaves rollback() to work, and nothing behind", async () => {
    const reply = await app.http.post("/isolated")
    await app.settled()
    expect(reply.status).to.equal(200)
    expect(isUsedAfterwards).to.equal("false false")
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([])
    expect(app.maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
  })
})

describeOnEach("the isolation level of a block", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  /** What the begins said of their isolation. */
  function isolations(): string[] {
    const characteristic = /ISOLATION LEVEL (\w+(?: \w+)?)/
    return fixture.log.statements().flatMap((statement) => characteristic.exec(statement)?.[1] ?? [])
  }

  const blocks: Record<string, (session: Session) => Promise<unknown>> = {
    "that was kept": (session) => session.transaction("SERIALIZABLE", async () => undefined),
    "that was rolled back": async (session) => {
      const block = session.transaction("SERIALIZABLE", async () => {
        throw new Error("undo")
      })
      await expect(block).to.be.rejectedWith("undo")
    },
    "in another one": (session) =>
      session.transaction((inner) => inner.transaction("SERIALIZABLE", async () => undefined)),
    "around another one": (session) =>
      session.transaction("SERIALIZABLE", (inner) => inner.transaction(async () => undefined)),
    "begun by hand": async ({ queryRunner }) => {
      await queryRunner?.startTransaction("SERIALIZABLE")
      await queryRunner?.rollbackTransaction()
    },
  }
  for (const [which, block] of Object.entries(blocks)) {
    it(`without a statement is not that of the next transaction: one ${which}`, async () => {
      await fixture.maker.run(async (session) => {
        await block(session)
        await session.insert(Note, { text: "a" })
        await session.commit()
        await session.insert(Note, { text: "b" })
      })
      expect(isolations()).to.deep.equal([])
      expect(await fixture.texts()).to.deep.equal(["a", "b"])
    })
  }

  it("without a statement is not that of the block around it", async () => {
    await fixture.maker.run((session) =>
      session.transaction(async (outer) => {
        await outer.transaction("SERIALIZABLE", async () => undefined)
        await outer.insert(Note, { text: "a" })
      }),
    )
    expect(isolations()).to.deep.equal([])
  })

  it("that differs from that of the block around it is refused, which keeps its own", async () => {
    await fixture.maker.run((session) =>
      session.transaction("SERIALIZABLE", async (outer) => {
        const block = outer.transaction("READ UNCOMMITTED", (inner) => inner.insert(Note, { text: "lost" }))
        await expect(block).to.be.rejectedWith(SessionOptionsError, "READ UNCOMMITTED")
        await outer.transaction("SERIALIZABLE", (inner) => inner.insert(Note, { text: "a" }))
      }),
    )
    // All transactions of SQLite are serializable, whatever they ask for.
    expect(isolations()).to.deep.equal(database.kind === "sqlite" ? [] : ["SERIALIZABLE"])
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  if (database.kind !== "sqlite") {
    it("is also that of a transaction that begins in it because the one before was ended by raw SQL", async () => {
      await fixture.maker.run((session) =>
        session.transaction("SERIALIZABLE", async (inner) => {
          await inner.insert(Note, { text: "a" })
          await inner.query("COMMIT")
          await inner.insert(Note, { text: "b" })
        }),
      )
      expect(isolations()).to.deep.equal(["SERIALIZABLE", "SERIALIZABLE"])
      expect(await fixture.texts()).to.deep.equal(["a", "b"])
    })
  }

  it("that was refused is not that of the next transaction", async () => {
    await fixture.maker.run(async (session) => {
      const block = session.transaction(NOT_THERE, (inner) => inner.count(Note))
      await expect(block).to.be.rejectedWith(SessionOptionsError)
      await session.insert(Note, { text: "a" })
    })
    expect(isolations()).to.deep.equal([])
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  it("that differs from that of the open transaction is refused, and nothing of the session is lost", async () => {
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      const block = session.transaction("SERIALIZABLE", (inner) => inner.insert(Note, { text: "lost" }))
      await expect(block).to.be.rejectedWith(SessionOptionsError, "SERIALIZABLE")
      await session.insert(Note, { text: "b" })
    })
    expect(await fixture.texts()).to.deep.equal(["a", "b"])
  })
})
