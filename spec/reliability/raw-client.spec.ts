import { expect } from "chai"
import type { Session } from "../../src/decorators/session"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { directly, postgresOnly } from "./support/databases"
import { eventually } from "./support/eventually"

interface RawClient {
  query(sql: string): Promise<unknown>
}

async function clientOf(db: Session): Promise<RawClient> {
  return (await db.queryRunner?.connect()) as RawClient
}

/** Breaks a foreign key that is checked at COMMIT only. */
const BREAKING = `INSERT INTO remark ("noteId") VALUES (4711)`

describeOnEach("the driver's client, or a stream, is the first use of a session in a GET", postgresOnly, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
  })
  afterEach(() => server.stop())

  const breaking: Readonly<Record<string, (db: Session) => Promise<unknown>>> = {
    "an INSERT on the client": async (db) => (await clientOf(db)).query(BREAKING),
    "an INSERT on the client, and a read of the session": async (db) => {
      await (await clientOf(db)).query(BREAKING)
      return db.query("SELECT 1")
    },
    "an INSERT on the client after a read of the session": async (db) => {
      await db.count(Note)
      return (await clientOf(db)).query(BREAKING)
    },
    "an INSERT whose rows are streamed": async (db) => {
      const rows = await db.queryRunner?.stream(`${BREAKING} RETURNING id`)
      for await (const row of rows as AsyncIterable<object>) expect(row).to.have.property("id")
    },
  }
  for (const [what, work] of Object.entries(breaking)) {
    it(`is no 200 where the COMMIT refuses it: ${what}`, async () => {
      server.work = async (db) => {
        await work(db)
        return { ok: true }
      }
      const reply = await server.http.get("/json")
      await server.settled()
      expect(reply.status).to.equal(409)
      expect(await server.rows("SELECT * FROM remark")).to.deep.equal([])
      expect(server.errors.errors().filter((error) => String(error).includes("constraint"))).to.deep.equal([])
    })
  }

  const storing: Readonly<Record<string, Work>> = {
    "COPY on the client": async (db) => (await clientOf(db)).query("COPY note (text) FROM PROGRAM 'echo copied' "),
    "an INSERT on the client": async (db) => (await clientOf(db)).query("INSERT INTO note (text) VALUES ('copied')"),
    "COPY through query()": (db) => db.query("COPY note (text) FROM PROGRAM 'echo copied'"),
  }
  for (const [what, work] of Object.entries(storing)) {
    it(`is committed before the answer: ${what}`, async () => {
      server.work = async (db, ctx) => {
        await work(db, ctx)
        return { ok: true }
      }
      // An answer that does not wait for its COMMIT comes long before it.
      server.wire?.setDelay(60)
      const reply = await server.http.get("/json")
      const stored = await directly(server, "SELECT text FROM note")
      server.wire?.setDelay(0)
      expect(reply.status).to.equal(200)
      expect(stored).to.deep.equal([{ text: "copied" }])
      await server.settled()
    })
  }

  it("runs to its end where the client leaves, as one that wrote", async () => {
    await server.maker.run((db) =>
      db.insert(
        Note,
        Array.from({ length: 45 }, (_, index) => ({ text: `note ${index}` })),
      ),
    )
    let result: unknown
    server.work = async (db) => {
      await (await clientOf(db)).query("INSERT INTO note (text) VALUES ('kept')")
      result = await db
        .query("SELECT count(*) AS slow FROM note a, note b, note c, note d WHERE a.text <> d.text")
        .catch((error: unknown) => error)
      return { ok: true }
    }
    const started = server.http.startRequest("/json")
    await eventually("the read runs", () => server.wire?.statements().some((sql) => sql.includes("AS slow")) === true)
    started.destroy()
    await server.settled()
    expect(result).to.be.an("array")
    expect(await server.rows("SELECT text FROM note WHERE text = 'kept'")).to.have.length(1)
  })
})
