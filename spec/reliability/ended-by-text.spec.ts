import { expect } from "chai"
import type { Outcome } from "../../src/engine/connection"
import { describeOnEach, type TestDatabase, testDatabases } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"

/** A text of which the words alone tell the wrong end. */
interface Case {
  readonly sql: string
  /** what is said of the transaction that wrote "before" */
  readonly outcome: Outcome
  readonly keeps: boolean
  /** the text fails, and the request with it */
  readonly fails?: boolean
}

const stays = (sql: string): Case => ({ sql, outcome: "committed", keeps: true })
const undone = (sql: string): Case => ({ sql, outcome: "rolled back", keeps: false })

function casesOf({ kind }: TestDatabase): readonly Case[] {
  const everywhere = [
    stays("/* rollback of it */ ROLLBACK TO SAVEPOINT here"),
    stays("-- rollback\nROLLBACK TO SAVEPOINT here"),
    stays("ROLLBACK /* only */ TO SAVEPOINT here"),
    stays("/* keep */ COMMIT"),
    undone("/* undo */ ROLLBACK"),
  ]
  if (kind === "sqlite") return everywhere
  if (kind === "postgres") {
    return [
      ...everywhere,
      stays("SELECT 'rollback'; ROLLBACK TO SAVEPOINT here"),
      stays('SAVEPOINT "rollback"; ROLLBACK TO SAVEPOINT "rollback"'),
      undone("ABORT AND CHAIN"),
      { sql: "COMMIT; SELECT no_such_column", outcome: "unknown", keeps: true, fails: true },
    ]
  }
  return [
    ...everywhere,
    stays("BEGIN NOT ATOMIC DO 1; END"),
    { sql: "EXECUTE IMMEDIATE 'ROLLBACK'", outcome: "unknown", keeps: false },
    { sql: "BEGIN NOT ATOMIC ROLLBACK; END", outcome: "unknown", keeps: false },
    { sql: "/*! ROLLBACK */", outcome: "unknown", keeps: false },
  ]
}

describeOnEach("a text ends the transaction, or only looks like it", testDatabases, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
  })
  afterEach(() => server.stop())

  for (const { sql, outcome, keeps, fails = false } of casesOf(database)) {
    it(`says "${outcome}" of ${sql.replaceAll("\n", " ")}`, async () => {
      const outcomes: Outcome[] = []
      server.work = async (db) => {
        db.afterCompletion((end) => {
          outcomes.push(end)
        })
        await db.insert(Note, { text: "before" })
        await db.query("SAVEPOINT here")
        await db.query(sql)
        return { ok: true }
      }
      expect((await server.http.post("/json")).status).to.equal(fails ? 500 : 200)
      await server.settled()
      expect(outcomes).to.deep.equal([outcome])
      expect(await server.rows("SELECT text FROM note")).to.have.length(keeps ? 1 : 0)
    })
  }
})
