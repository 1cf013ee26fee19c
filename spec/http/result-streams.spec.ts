import { once } from "node:events"
import { Readable } from "node:stream"
import { expect } from "chai"
import type { Session } from "../../src/decorators/session"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

const insert = (db: Session) => db.insert(Note, { text: "a" })

const wires = httpDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("result streams as the body", wires, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
    await server.maker.run((db) => db.query("INSERT INTO note (text) SELECT 'n' || i FROM generate_series(1, 5000) i"))
    server.log.clear()
  })
  afterEach(() => server.stop())

  const streamed = async (db: Session) => {
    const rows = await db.createQueryBuilder(Note, "note").stream()
    const lines = rows as unknown as Readable
    return lines.compose(async function* (source: AsyncIterable<object>) {
      for await (const row of source) yield `${JSON.stringify(row)}\n`
    })
  }

  it("reads to its end in its transaction, which then ends", async () => {
    server.work = streamed
    const reply = await server.http.get("/json")
    await server.settled()
    expect(reply.text.trim().split("\n")).to.have.length(5000)
    expect(server.log.verbs().filter((verb) => verb !== "SELECT")).to.deep.equal(["BEGIN", "COMMIT"])
    expect(server.errors.errors()).to.deep.equal([])
  })

  it("commits what was written before it", async () => {
    server.work = async (db) => {
      await insert(db)
      return streamed(db)
    }
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.text.trim().split("\n")).to.have.length(5001)
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "SELECT", "COMMIT"])
    expect(server.errors.errors()).to.deep.equal([])
  })

  for (const commit of ["after-response", "manual"] as const) {
    it(`reads to its end with commit "${commit}"`, async () => {
      await server.stop()
      server = await startSessionApp(database, { maker: { poolSize: 1 }, sessions: { commit }, work: streamed })
      await server.maker.run((db) => db.insert(Note, { text: "only" }))
      const reply = await server.http.get("/json")
      await server.settled()
      expect(reply.text.trim().split("\n")).to.have.length(1)
      expect(server.log.verbs().at(-1)).to.equal(commit === "manual" ? "ROLLBACK" : "COMMIT")
    })
  }

  for (const method of ["HEAD", "GET"]) {
    it(`ends where a ${method} response never reads it`, async () => {
      server.work = async (db, ctx) => {
        const body = await streamed(db)
        if (method === "HEAD") return body
        ctx.body = { instead: true }
        return ctx
      }
      const reply = await server.http.send("/json", { method })
      await server.settled()
      expect(reply.status).to.equal(200)
      expect(server.errors.errors()).to.deep.equal([])
      server.work = async (db) => ({ count: await db.count(Note) })
      expect((await server.http.get("/json")).json()).to.deep.equal({ count: 5000 })
    })
  }

  it("is destroyed with the client's connection, and gives its own back", async () => {
    server.work = async (db) => db.createQueryBuilder(Note, "note").stream().then(toLines)
    const request = server.http.startRequest("/json")
    const response = await request.response
    await once(response, "data")
    request.destroy()
    await server.settled()
    server.work = async (db) => ({ count: await db.count(Note) })
    expect((await server.http.get("/json")).json()).to.deep.equal({ count: 5000 })
  })

  it("rolls back and reports where it fails in the middle", async () => {
    server.work = async (db) => {
      await insert(db)
      const rows = await db.createQueryBuilder(Note, "note").select("1 / (4000 - note.id)", "x").stream()
      return toLines(rows as unknown as Readable)
    }
    await server.http.post("/json").catch(() => undefined)
    await server.settled()
    expect(await server.rows("SELECT * FROM note WHERE text = 'a'")).to.deep.equal([])
    server.work = async (db) => ({ count: await db.count(Note) })
    expect((await server.http.get("/json")).json()).to.deep.equal({ count: 5000 })
  })
})

function toLines(rows: NodeJS.ReadableStream): Readable {
  return (rows as Readable).map((row: object) => `${JSON.stringify(row)}\n`) as Readable
}
