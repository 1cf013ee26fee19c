import { expect } from "chai"
import { describeOnEach, testDatabases } from "../support/databases"
import { Note, Remark } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { codesOf, recordOutcome } from "./support/outcomes"

const sqlite = testDatabases.filter(({ kind }) => kind === "sqlite")

/** Enough words that what the index keeps in memory until COMMIT needs pages of its own then. */
const WORDS = Array.from({ length: 3_000 }, (_, index) => `word${index}`).join(" ")

describeOnEach("SQLite refuses a COMMIT", sqlite, (database) => {
  let server: SessionApp
  let called: string[]

  /** An index of words writes at COMMIT what it was given, and the file may not grow: as on a disk that is full. */
  const fillDisk: Work = async (db) => {
    await db.insert(Note, { text: "before" })
    const [{ page_count: pages }] = (await db.query("PRAGMA page_count")) as [{ page_count: number }]
    await db.query(`PRAGMA max_page_count = ${pages}`)
    await db.query("INSERT INTO words (body) VALUES (?)", [WORDS])
    return { ok: true }
  }
  const breakConstraint: Work = async (db) => {
    await db.insert(Note, { text: "before" })
    await db.insert(Remark, { noteId: 4711 })
    return { ok: true }
  }

  beforeEach(async () => {
    called = []
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
    await server.maker.run((db) => db.query("CREATE VIRTUAL TABLE words USING fts5(body, content='')"))
  })
  afterEach(() => server.stop())

  for (const [cause, status, work] of [
    ["SQLITE_FULL", 500, fillDisk],
    ["SQLITE_CONSTRAINT_FOREIGNKEY", 409, breakConstraint],
  ] as const) {
    it(`for ${cause}: that is the cause which is reported, and the outcome is "rolled back"`, async () => {
      server.work = (db, ctx) => {
        recordOutcome(db, called)
        return work(db, ctx)
      }
      const reply = await server.http.post("/json")
      await server.settled()
      expect(reply.status).to.equal(status)
      expect(reply.text).to.not.match(/SQLITE|disk|constraint/i)
      const codes = codesOf(server.errors.errors())
      if (status === 500) expect(codes).to.include(cause)
      expect(codes).to.not.include("SQLITE_ERROR")
      expect(codes).to.not.include("ERR_SESSION_COMMIT_OUTCOME_UNKNOWN")
      expect(called).to.deep.equal(["rolled back", "completed: rolled back"])
      expect(await server.rows("SELECT * FROM note")).to.deep.equal([])
    })

    for (const method of ["GET", "POST"]) {
      it(`for ${cause}: it is reported in a ${method} that has no function to tell`, async () => {
        server.work = work
        const reply = await server.http.send("/json", { method })
        await server.settled()
        expect(reply.status).to.equal(status)
        const codes = codesOf(server.errors.errors())
        if (status === 500) expect(codes).to.include(cause)
        expect(codes).to.not.include("SQLITE_ERROR").and.not.include("ERR_SESSION_TRANSACTION_ABORTED")
      })
    }

    it(`for ${cause}: it is reported where the commit comes after the response`, async () => {
      const late = await startSessionApp(database, { sessions: { commit: "after-response" }, work })
      try {
        await late.maker.run((db) => db.query("CREATE VIRTUAL TABLE words USING fts5(body, content='')"))
        expect((await late.http.post("/json")).status).to.equal(200)
        await late.settled()
        const codes = codesOf(late.errors.errors())
        expect(codes).to.include(cause)
        expect(codes).to.not.include("SQLITE_ERROR")
      } finally {
        await late.stop()
      }
    })

    for (const how of ["commit() by hand", "maker.run()"]) {
      it(`for ${cause}: ${how} rejects with it`, async () => {
        const run = server.maker.run(async (db) => {
          await work(db, {} as never)
          if (how === "commit() by hand") await db.commit()
        })
        const [settled] = await Promise.allSettled([run])
        const codes = codesOf([settled.status === "rejected" ? settled.reason : undefined])
        expect(codes).to.include(cause)
        expect(codes).to.not.include("SQLITE_ERROR")
      })
    }

    it(`for ${cause}: the next session has a clean connection`, async () => {
      server.work = work
      await server.http.post("/json")
      await server.settled()
      server.work = async (db) => {
        await db.query("PRAGMA max_page_count = 1000000")
        await db.insert(Note, { text: "next" })
        return { ok: true }
      }
      expect((await server.http.post("/json")).status).to.equal(200)
      await server.settled()
      expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "next" }])
    })
  }
})
