import { expect } from "chai"
import { TransactionAbortedError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"

describeOnEach("a statement fails and the action swallows it", shared, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
  })
  afterEach(() => server.stop())

  it("answers with an error and emits TransactionAbortedError with the failure as its cause", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: "kept?" })
      await db.query("SELECT * FROM no_such_table").catch(() => undefined)
      return { ok: true }
    }
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.status).to.equal(500)
    expect(reply.text).to.not.include("no_such_table")
    expect(server.errors.errors()).to.have.length(1)
    const [error] = server.errors.errors() as TransactionAbortedError[]
    expect(error).to.be.instanceOf(TransactionAbortedError)
    expect(error?.cause).to.have.property("message").that.includes("no_such_table")
    expect(server.errors.all()[0]?.ctx?.path).to.equal("/json")
    expect(await server.rows("SELECT * FROM note")).to.deep.equal([])
  })

  it("refuses the statements after it, and hands the next request a clean connection", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: "one" })
      await db.query("SELECT * FROM no_such_table").catch(() => undefined)
      await db.insert(Note, { text: "two" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(500)
    server.work = async (db) => {
      await db.insert(Note, { text: "three" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "three" }])
    expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0, committed: 1 })
  })

  it("commits where the failure was inside a transaction() block", async () => {
    server.work = async (db) => {
      await db.insert(Note, { text: "one" })
      await db.transaction((inner) => inner.query("SELECT * FROM no_such_table")).catch(() => undefined)
      await db.insert(Note, { text: "two" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(await server.rows("SELECT text FROM note ORDER BY id")).to.deep.equal([{ text: "one" }, { text: "two" }])
  })
})
