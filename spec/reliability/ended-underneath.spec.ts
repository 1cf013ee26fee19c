import { expect } from "chai"
import { HttpError } from "routing-controllers"
import type { Session } from "../../src/decorators/session"
import { describeOnEach, type TestDatabase, testDatabases } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { recordOutcome } from "./support/outcomes"

/** Ways in which a program ends the transaction under its session, and whether what was written by then stays. */
interface Ending {
  readonly sql: string
  readonly keeps: boolean
}

function endingsOf({ kind }: TestDatabase): readonly Ending[] {
  const everywhere = [
    { sql: "COMMIT", keeps: true },
    { sql: "ROLLBACK", keeps: false },
  ]
  if (kind !== "mysql") return everywhere
  const implicit = [
    "TRUNCATE TABLE counter",
    "CREATE TABLE made_meanwhile (id int)",
    "ALTER TABLE counter COMMENT = 'changed'",
  ]
  return [...everywhere, ...implicit.map((sql) => ({ sql, keeps: true }))]
}

const insert = (db: Pick<Session, "insert">, text: string) => db.insert(Note, { text })

describeOnEach("the transaction is ended under its session", testDatabases, (database) => {
  let server: SessionApp
  let called: string[]
  beforeEach(async () => {
    called = []
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
  })
  afterEach(() => server.stop())

  const texts = async () => (await server.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text)

  async function expectClean(before: readonly string[]): Promise<void> {
    await server.settled()
    server.work = async (db) => {
      await insert(db, "next")
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(await texts()).to.deep.equal([...before, "next"])
  }

  for (const { sql, keeps } of endingsOf(database)) {
    const before = keeps ? ["before"] : []

    it(`undoes what is written after it where the action throws: ${sql}`, async () => {
      server.work = async (db) => {
        await insert(db, "before")
        await db.query(sql)
        await insert(db, "after")
        await insert(db, "after, too")
        throw new HttpError(418, "short and stout")
      }
      expect((await server.http.post("/json")).status).to.equal(418)
      await server.settled()
      expect(await texts()).to.deep.equal(before)
      await expectClean(before)
    })

    it(`commits what is written after it where the action returns: ${sql}`, async () => {
      server.work = async (db) => {
        await insert(db, "before")
        await db.query(sql)
        await insert(db, "after")
        return { ok: true }
      }
      expect((await server.http.post("/json")).status).to.equal(200)
      await server.settled()
      expect(await texts()).to.deep.equal([...before, "after"])
    })

    it(`tells the functions of before and those of after it what was kept: ${sql}`, async () => {
      server.work = async (db) => {
        recordOutcome(db, called, "before")
        await insert(db, "before")
        await db.query(sql)
        await insert(db, "after")
        recordOutcome(db, called, "after")
        throw new HttpError(418, "short and stout")
      }
      expect((await server.http.post("/json")).status).to.equal(418)
      await server.settled()
      const outcome = keeps ? "committed" : "rolled back"
      expect(called).to.deep.equal([
        `before ${outcome}`,
        `before completed: ${outcome}`,
        "after rolled back",
        "after completed: rolled back",
      ])
    })

    it(`undoes what is written after it as the session's first statement: ${sql}`, async () => {
      server.work = async (db) => {
        await db.query(sql)
        await insert(db, "after")
        throw new HttpError(418, "short and stout")
      }
      expect((await server.http.post("/json")).status).to.equal(418)
      await server.settled()
      expect(await texts()).to.deep.equal([])
      await expectClean([])
    })

    it(`lets nothing that is written after it in a transaction() block survive a throw: ${sql}`, async () => {
      server.work = async (db) => {
        await insert(db, "before")
        await db.transaction(async (inner) => {
          await inner.insert(Note, { text: "inside" })
          await inner.query(sql)
          await inner.insert(Note, { text: "after" })
          throw new HttpError(418, "short and stout")
        })
      }
      expect((await server.http.post("/json")).status).to.be.at.least(400)
      await server.settled()
      const stays = keeps ? ["before", "inside"] : []
      expect(await texts()).to.deep.equal(stays)
      await expectClean(stays)
    })

    it(`undoes what is written after such a block, too, where the action throws: ${sql}`, async () => {
      server.work = async (db) => {
        await insert(db, "before")
        await db
          .transaction(async (inner) => {
            await inner.query(sql)
            throw new Error("The block fails.")
          })
          .catch(() => undefined)
        await insert(db, "after").catch(() => undefined)
        throw new HttpError(418, "short and stout")
      }
      expect((await server.http.post("/json")).status).to.equal(418)
      await server.settled()
      expect(await texts()).to.deep.equal(before)
      await expectClean(before)
    })
  }

  // The server has a transaction before and after these: its status alone does not tell that there was an end between.
  const chained = { sqlite: [], postgres: ["COMMIT AND CHAIN"], mysql: ["COMMIT AND CHAIN", "START TRANSACTION"] }
  for (const sql of chained[database.kind]) {
    it(`undoes what is written after it, where a new transaction is begun at once: ${sql}`, async () => {
      server.work = async (db) => {
        await insert(db, "before")
        await db.query(sql)
        await insert(db, "after")
        throw new HttpError(418, "short and stout")
      }
      expect((await server.http.post("/json")).status).to.equal(418)
      await server.settled()
      expect(await texts()).to.deep.equal(["before"])
      await expectClean(["before"])
    })

    it(`calls nothing rolled back that was kept, where a new transaction is begun at once: ${sql}`, async () => {
      server.work = async (db) => {
        recordOutcome(db, called, "before")
        await insert(db, "before")
        await db.query(sql)
        throw new HttpError(418, "short and stout")
      }
      expect((await server.http.post("/json")).status).to.equal(418)
      await server.settled()
      expect(called).to.not.include("before rolled back").and.not.include("before completed: rolled back")
    })
  }
})

describeOnEach(
  "SQLite rolls back by itself, as the file is full",
  testDatabases.filter(({ kind }) => kind === "sqlite"),
  (database) => {
    it("and nothing is kept: what the action writes after it is refused, and the response is no 200", async () => {
      const server = await startSessionApp(database, { maker: { poolSize: 1 } })
      try {
        let refused: unknown
        let late: unknown
        server.work = async (db) => {
          await insert(db, "before")
          await db.query("CREATE TABLE filler (text TEXT)")
          const [{ page_count: pages }] = (await db.query("PRAGMA page_count")) as [{ page_count: number }]
          await db.query(`PRAGMA max_page_count = ${pages}`)
          refused = await db
            .query(`INSERT INTO filler VALUES ('${"x".repeat(100_000)}')`)
            .catch((error: unknown) => error)
          await db.query("PRAGMA max_page_count = 1000000").catch(() => undefined)
          late = await insert(db, "after").catch((error: unknown) => error)
          return { ok: true }
        }
        const reply = await server.http.post("/json")
        await server.settled()
        expect(refused).to.have.nested.property("driverError.code", "SQLITE_FULL")
        const stored = (await server.rows("SELECT text FROM note")).map(({ text }) => text)
        expect(stored).to.not.include("before")
        expect(reply.status).to.equal(500)
        expect(stored).to.deep.equal([])
        expect(late).to.be.instanceOf(Error)
        expect(server.maker.stats()).to.include({ committed: 0 })
      } finally {
        await server.stop()
      }
    })
  },
)
