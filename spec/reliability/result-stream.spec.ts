import { Readable } from "node:stream"
import { expect } from "chai"
import type { Session } from "../../src/decorators/session"
import { describeOnEach } from "../support/databases"
import { readReply } from "../support/http"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { directly, servers } from "./support/databases"
import { eventually } from "./support/eventually"

const NOTES = 30

/** A body of several MiB, so that a reader that stops leaves the server in the middle of it. */
async function linesOf(db: Session, from = "note a CROSS JOIN note b ORDER BY a.id"): Promise<Readable> {
  const sql = `SELECT a.text AS text, repeat('x', 10000) AS filler FROM ${from}`
  const rows = await db.queryRunner?.stream(sql)
  async function* lines() {
    for await (const row of rows as AsyncIterable<{ text: string; filler: string }>) yield `${row.text} ${row.filler}\n`
  }
  return Readable.from(lines())
}

describeOnEach("a result stream is the body", servers, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 2_000 } })
    await server.maker.run(async (session) => {
      for (let index = 0; index < NOTES; index++) await session.insert(Note, { text: `note ${index}` })
    })
    server.log.clear()
  })
  afterEach(() => server.stop())

  it("is read to its end inside its transaction, which is then committed", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: "with the stream" })
      return linesOf(db)
    }
    const reply = await server.http.get("/text")
    await server.settled()
    expect(reply.status).to.equal(200)
    const lines = reply.text.split("\n").slice(0, -1)
    expect(lines).to.have.length((NOTES + 1) ** 2)
    expect(lines.at(-1)).to.match(/^with the stream x+$/)
    expect(server.errors.errors()).to.deep.equal([])
    expect(await server.rows("SELECT text FROM note WHERE text LIKE 'with%'")).to.have.length(1)
    if (server.wire) {
      const verbs = server.wire.verbs()
      expect([verbs[0], verbs.at(-1)]).to.deep.equal(["BEGIN", "COMMIT"])
    }
    expect(server.maker.stats()).to.include({ open: 0, active: 0 })
  })

  it("destroys the cursor and gives the connection back when the client goes away in mid-body", async () => {
    // Gigabytes: nobody can wait for the rows that are not read.
    server.work = (db) => linesOf(db, "note a, note b, note c, note d, note e")
    for (let round = 0; round < 3; round++) {
      const started = server.http.startRequest("/text")
      expect((await started.response).statusCode).to.equal(200)
      expect(server.maker.stats()).to.include({ open: 1, active: 1 })
      started.destroy()
      await eventually("the session has ended", () => server.maker.stats().open === 0, 2_000)
    }
    server.work = (db) => db.count(Note)
    expect((await server.http.get("/json")).text).to.equal(String(NOTES))
    await server.settled()
    expect(server.maker.stats().pool.size).to.equal(1)
    const open =
      database.kind === "postgres"
        ? "SELECT 1 AS open FROM pg_stat_activity WHERE datname = current_database() AND state LIKE '%in transaction%'"
        : "SELECT 1 AS open FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE p.db = database()"
    await eventually("the server has no open transaction", async () => (await directly(server, open)).length === 0)
  })

  it("cuts the response and frees the connection when the stream fails in mid-body", async () => {
    server.work = async (db) => {
      const failing = (database.kind === "postgres" && "1 / (20 - a.id)") || "(SELECT 1 UNION SELECT 2 WHERE a.id = 20)"
      const rows = await db.queryRunner?.stream(
        `SELECT repeat('x', 10000) AS filler, ${failing} AS n FROM note a CROSS JOIN note b ORDER BY a.id`,
      )
      async function* lines() {
        for await (const row of rows as AsyncIterable<{ filler: string }>) yield `${row.filler}\n`
      }
      return Readable.from(lines())
    }
    const reply = server.http.startRequest("/text")
    await expect(reply.response.then(readReply)).to.be.rejected
    await eventually("the session has ended", () => server.maker.stats().open === 0, 2_000)
    server.work = (db) => db.count(Note)
    expect((await server.http.get("/json")).text).to.equal(String(NOTES))
  })
})
