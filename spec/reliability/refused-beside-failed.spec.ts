import { expect } from "chai"
import { TransactionAbortedError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { postgresOnly, servers } from "./support/databases"

describeOnEach("a statement refused because another one lost the connection", servers, ({ kind, ...rest }) => {
  const database = { kind, ...rest }
  const die = kind === "postgres" ? "SELECT pg_terminate_backend(pg_backend_pid())" : "KILL CONNECTION_ID()"
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database)
  })
  afterEach(() => server.stop())

  it("is answered as the loss is: 503 with Retry-After", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: "kept?" })
      const lost = db.query(die)
      lost.catch(() => undefined)
      return db.query("SELECT 1")
    }
    const reply = await server.http.post("/json")
    expect(reply.status).to.equal(503)
    expect(reply.headers).to.have.property("retry-after")
    expect(server.errors.errors()[0]).to.be.instanceOf(TransactionAbortedError)
    await server.settled()
    expect(await server.rows("SELECT * FROM note")).to.deep.equal([])
  })
})

describeOnEach("a serialization failure that the action swallows", postgresOnly, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { sessions: { retries: 1 } })
  })
  afterEach(() => server.stop())

  it("runs the action again", async () => {
    let runs = 0
    server.work = async (db) => {
      runs++
      await db.insert(Note, { text: `run ${runs}` })
      if (runs === 1) await db.query("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$").catch(() => undefined)
      return { runs }
    }
    const reply = await server.http.post("/json")
    expect(reply.json()).to.deep.equal({ runs: 2 })
    await server.settled()
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "run 2" }])
  })
})
