import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { Note, Remark } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { shared } from "./support/databases"

// MySQL and MariaDB check every constraint at its statement.
const deferring = shared.filter(({ kind }) => kind !== "mysql")

describeOnEach("a deferred constraint fails at COMMIT", deferring, (database) => {
  let server: SessionApp
  let hooks: string[]
  const breaking: Work = async (db) => {
    db.afterCommit(() => hooks.push("committed"))
    db.afterRollback(() => hooks.push("rolled back"))
    await db.insert(Note, { text: "kept?" })
    await db.insert(Remark, { noteId: 4711 })
    return { ok: true }
  }

  beforeEach(async () => {
    hooks = []
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
  })
  afterEach(() => server.stop())

  it("answers 409 before the response, runs no afterCommit function and keeps nothing", async () => {
    server.work = breaking
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.status).to.equal(409)
    expect(reply.text).to.not.match(/remark|constraint|note/i)
    expect(hooks).to.deep.equal(["rolled back"])
    expect(await server.rows("SELECT * FROM note")).to.deep.equal([])
    expect(server.log.verbs().filter((verb) => verb !== "INSERT")).to.satisfy((verbs: string[]) =>
      ["BEGIN COMMIT ROLLBACK", "BEGIN COMMIT"].includes(verbs.join(" ")),
    )
    expect(server.maker.stats()).to.include({ open: 0, committed: 0, failed: 1 })
  })

  it("leaves the only connection clean for the next request", async () => {
    server.work = breaking
    await server.http.post("/json")
    server.work = async (db) => {
      await db.insert(Note, { text: "next" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "next" }])
    expect(server.maker.stats().pool.size).to.equal(server.wire ? 1 : server.maker.stats().pool.size)
  })

  it("rejects commit() by hand with the database's error, and the session goes on", async () => {
    let refused: unknown
    server.work = async (db) => {
      await db.insert(Remark, { noteId: 4711 })
      refused = await db.commit().catch((error: unknown) => error)
      await db.insert(Note, { text: "after" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(refused).to.be.instanceOf(Error).with.property("name", "QueryFailedError")
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "after" }])
  })
})
