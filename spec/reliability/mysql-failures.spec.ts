import { once } from "node:events"
import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { directly, killConnection, servers } from "./support/databases"

const mysqlOnly = servers.filter(({ kind }) => kind === "mysql")

describeOnEach("failures whose number MariaDB and MySQL do not share", mysqlOnly, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { sessions: { timeoutMs: 50 } })
  })
  afterEach(() => server.stop())

  it("are 400 for a check constraint", async () => {
    await directly(server, "ALTER TABLE note ADD CONSTRAINT short CHECK (length(text) < 5)")
    server.work = (db) => db.insert(Note, { text: "too long" })
    expect((await server.http.post("/json")).status).to.equal(400)
  })

  it("are 503 with Retry-After for a statement whose connection is killed, and for one that comes after that", async () => {
    server.work = (db) => db.query("KILL CONNECTION_ID()")
    const during = await server.http.get("/json")
    server.work = async (db) => {
      const [{ id }] = await db.query("SELECT CONNECTION_ID() AS id")
      const client = (await db.queryRunner?.connect()) as NodeJS.EventEmitter
      await Promise.all([once(client, "error"), killConnection(server, "mysql", Number(id))])
      return db.query("SELECT 1")
    }
    const after = await server.http.get("/json")
    for (const { status, headers } of [during, after]) {
      expect(status).to.equal(503)
      expect(headers).to.have.property("retry-after")
    }
  })

  it("are 503 with Retry-After for a statement that ran longer than timeoutMs", async () => {
    const columns = "information_schema.columns"
    server.work = (db) => db.query(`SELECT count(*) FROM ${columns} a, ${columns} b, ${columns} c`)
    const reply = await server.http.get("/json")
    expect(reply.status).to.equal(503)
    expect(reply.headers).to.have.property("retry-after")
  })
})
