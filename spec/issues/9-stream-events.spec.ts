import { once } from "node:events"
import { expect } from "chai"
import { tryCurrentSession } from "../../src/request/current-session"
import { describeOnEach, testDatabases } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"

const servers = testDatabases.filter(({ kind }) => kind !== "sqlite")

describeOnEach("Handlers of a result stream's events", servers, (database) => {
  let server: SessionApp
  afterEach(() => server.stop())

  it("run in the request that reads it, and not in the one that had the connection opened", async () => {
    server = await startSessionApp(database, { sessions: { ambient: true }, maker: { poolSize: 1 } })
    await server.maker.run((db) => db.insert(Note, [{ text: "a" }, { text: "b" }]))
    const seen: unknown[] = []
    server.work = async (db) => {
      const rows = await db.createQueryBuilder(Note, "note").stream()
      rows.on("data", () => seen.push(tryCurrentSession() === db))
      await once(rows, "end")
      return "read"
    }
    for (let request = 0; request < 2; request++) expect((await server.http.post("/json")).status).to.equal(200)
    expect(seen).to.deep.equal([true, true, true, true])
  })

  it("belong to the block that the stream was asked for in", async () => {
    server = await startSessionApp(database)
    await server.maker.run((db) => db.insert(Note, [{ text: "a" }]))
    const late: Promise<unknown>[] = []
    server.work = async (db) => {
      const block = db.transaction(async (inner) => {
        const rows = await inner.createQueryBuilder(Note, "note").stream()
        rows.on("data", () =>
          late.push(
            db.insert(Note, { text: "copy" }).then(
              () => "stored",
              () => "refused",
            ),
          ),
        )
        await once(rows, "end")
        throw new Error("thrown in the block")
      })
      await block.catch(() => undefined)
      return Promise.all(late)
    }
    await server.http.post("/json")
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "a" }])
  })
})
