import { expect } from "chai"
import { TransactionHeldError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Note } from "../support/http-entities"
import { startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"
import { eventually } from "./support/eventually"
import { occupy } from "./support/occupied"

const held = (errors: readonly unknown[]) => errors.filter((error) => error instanceof TransactionHeldError)

describeOnEach("a transaction is held too long", shared, (database) => {
  it("is reported once with route, age and state, and goes on", async () => {
    const leave = new Deferred()
    const server = await startSessionApp(database, { sessions: { warnAfterMs: 60 }, maker: { poolSize: 1 } })
    try {
      server.work = async (db) => {
        await db.insert(Note, { text: "slow" })
        await leave.promise
        return { ok: true }
      }
      const reply = server.http.post("/json")
      const { error, ctx } = await server.errors.next()
      expect(error).to.be.instanceOf(TransactionHeldError)
      expect(String(error)).to.match(/POST \/json\b.* for (6|7|8|9|1\d)\d* ms/)
      expect(String(error)).to.include("no statement is running")
      expect(ctx?.path).to.equal("/json")
      const reportedAt = performance.now()
      await eventually("two more periods have passed", () => performance.now() - reportedAt > 150)
      expect(held(server.errors.errors())).to.have.length(1)
      leave.resolve()
      expect((await reply).status).to.equal(200)
      await server.settled()
      expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "slow" }])
    } finally {
      await server.stop()
    }
  })

  it("is reported as waiting where it has no connection yet", async () => {
    const server = await startSessionApp(database, { sessions: { warnAfterMs: 60 }, maker: { poolSize: 1 } })
    try {
      const occupied = await occupy(server, 1)
      server.work = async (db) => {
        await db.insert(Note, { text: "queued" })
        return { ok: true }
      }
      const queued = server.http.post("/text")
      await eventually("both are reported", () => held(server.errors.errors()).length === 2)
      const texts = server.errors.errors().map(String)
      expect(texts.find((text) => text.includes("/text"))).to.match(
        /^TransactionHeldError: POST \/text\b.* has been waiting for a connection for \d+ ms/,
      )
      occupied.release()
      expect((await queued).status).to.equal(200)
    } finally {
      await server.stop()
    }
  })

  it("is not reported where each transaction of the request is short", async () => {
    const server = await startSessionApp(database, { sessions: { warnAfterMs: 200 } })
    try {
      server.work = async (db) => {
        for (let index = 0; index < 5; index++) {
          await db.insert(Note, { text: `note ${index}` })
          await db.commit()
          const startedAt = performance.now()
          await eventually("some time has passed", () => performance.now() - startedAt > 70)
        }
        return { ok: true }
      }
      expect((await server.http.post("/json")).status).to.equal(200)
      expect(server.errors.errors()).to.deep.equal([])
    } finally {
      await server.stop()
    }
  })
})
