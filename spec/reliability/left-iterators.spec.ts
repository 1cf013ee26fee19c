import { expect } from "chai"
import { describeOnEach, testDatabases } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { servers } from "./support/databases"

interface Iterable {
  prepare(text: string): { iterate(): Iterator<unknown> }
}

const sqliteFile = testDatabases.filter(({ name }) => name === "SQLite file")

describeOnEach("a result of the driver's own is left in the middle", sqliteFile, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 500 } })
  })
  afterEach(() => server.stop())

  for (const method of ["get", "post"] as const) {
    it(`gives the place and the locks back: ${method}`, async () => {
      const open: Iterator<unknown>[] = []
      server.work = async (db) => {
        const handle = (await db.queryRunner?.connect()) as Iterable
        const rows = handle.prepare("SELECT 1 UNION ALL SELECT 2").iterate()
        rows.next()
        open.push(rows)
        throw new Error("left")
      }
      for (let round = 0; round < 3; round++) expect((await server.http[method]("/json")).status).to.equal(500)
      await server.settled()
      server.work = async (db) => {
        await db.insert(Note, { text: "next" })
        return { ok: true }
      }
      expect((await server.http.post("/json")).status).to.equal(200)
      for (const rows of open) rows.return?.()
    })
  }
})

describeOnEach("a result stream is left although the server has sent all of it", servers, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 2_000 } })
  })
  afterEach(() => server.stop())

  it("is read to its end, and what was written before is committed", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: `note ${Math.random()}` })
      const rows = await db.queryRunner?.stream("SELECT a.text FROM note a, (SELECT 1 UNION SELECT 2) b")
      for await (const row of rows as AsyncIterable<unknown>) if (row) break
      return { ok: true }
    }
    for (let round = 0; round < 10; round++) expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(server.errors.errors()).to.deep.equal([])
    expect(server.maker.stats()).to.include({ failed: 0, committed: 10 })
  })
})
