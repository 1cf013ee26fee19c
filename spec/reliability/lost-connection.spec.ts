import type { EventEmitter } from "node:events"
import { expect } from "chai"
import { HttpError } from "routing-controllers"
import type { Session } from "../../src/decorators/session"
import { CommitOutcomeUnknownError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { connectionIdSql, killConnection, servers } from "./support/databases"

describeOnEach("the connection is lost in mid-transaction", servers, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 2_000 } })
  })
  afterEach(() => server.stop())

  async function kill(db: Session): Promise<number> {
    const [{ id }] = (await db.query(connectionIdSql(database.kind))) as [{ id: number }]
    await killConnection(server, database.kind, id)
    return id
  }

  async function expectWhole(lost: number): Promise<void> {
    await server.settled()
    expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
    expect(server.maker.stats().pool.size).to.be.at.most(1)
    let next = 0
    server.work = async (db) => {
      const [{ id }] = (await db.query(connectionIdSql(database.kind))) as [{ id: number }]
      next = id
      await db.insert(Note, { text: "next" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(next).to.not.equal(lost)
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "next" }])
    expect(server.maker.stats().pool.size).to.equal(1)
  }

  it("answers 503 when the backend is killed and a statement follows; the pool is whole again", async () => {
    let lost = 0
    server.work = async (db) => {
      await db.insert(Note, { text: "lost" })
      lost = await kill(db)
      await db.insert(Note, { text: "refused" })
      return { ok: true }
    }
    const reply = await server.http.post("/json")
    expect(reply.status).to.equal(503)
    expect(reply.headers["retry-after"]).to.equal("1")
    expect(server.maker.stats().failed).to.equal(1)
    await expectWhole(lost)
  })

  it("answers 503 when the driver has seen the loss before the next statement", async () => {
    let lost = 0
    server.work = async (db) => {
      await db.insert(Note, { text: "lost" })
      const client = (await db.queryRunner?.connect()) as EventEmitter
      const seen = new Promise((resolve) => client.once("end", resolve).once("error", resolve))
      lost = await kill(db)
      await seen
      await db.insert(Note, { text: "refused" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(503)
    await expectWhole(lost)
  })

  it("answers with an error when the backend is killed and only the COMMIT follows", async () => {
    let lost = 0
    server.work = async (db) => {
      await db.insert(Note, { text: "lost" })
      lost = await kill(db)
      return { ok: true }
    }
    const reply = await server.http.post("/json")
    // PostgreSQL says that it ended the backend before it came to the COMMIT. MariaDB's notice may come after COMMIT has gone out,
    // and does not tell how far that came.
    const isUnknown = server.errors.errors().some((error) => error instanceof CommitOutcomeUnknownError)
    expect(isUnknown && database.kind === "postgres").to.equal(false)
    expect(reply.status).to.equal(isUnknown ? 500 : 503)
    expect(reply.headers["retry-after"] === undefined).to.equal(isUnknown)
    await expectWhole(lost)
  })

  it("answers with the action's own error when the ROLLBACK after it fails", async () => {
    let lost = 0
    server.work = async (db) => {
      await db.insert(Note, { text: "lost" })
      lost = await kill(db)
      throw new HttpError(418, "short and stout")
    }
    const reply = await server.http.post("/json")
    expect(reply.status).to.equal(418)
    expect(reply.json()).to.have.property("message", "short and stout")
    await expectWhole(lost)
  })

  it("answers with the mapped error of the statement that failed first when the ROLLBACK after it fails", async () => {
    let lost = 0
    server.work = async (db) => {
      await db.insert(Note, { text: "same" })
      const [{ id }] = (await db.query(connectionIdSql(database.kind))) as [{ id: number }]
      lost = id
      try {
        await db.insert(Note, { text: "same" })
      } finally {
        await killConnection(server, database.kind, id)
      }
    }
    expect((await server.http.post("/json")).status).to.equal(409)
    await expectWhole(lost)
  })

  it("keeps going for 50 killed transactions on a pool of 5", async () => {
    const wide = await startSessionApp(database, { maker: { poolSize: 5 } })
    try {
      let count = 0
      wide.work = async (db) => {
        const [{ id }] = (await db.query(connectionIdSql(database.kind))) as [{ id: number }]
        await db.insert(Note, { text: `note ${count++}` })
        await killConnection(wide, database.kind, id)
        await db.query("SELECT 1")
        return { ok: true }
      }
      const replies = await Promise.all(Array.from({ length: 50 }, () => wide.http.post("/json")))
      expect([...new Set(replies.map(({ status }) => status))]).to.deep.equal([503])
      wide.work = async (db) => db.count(Note)
      const after = await Promise.all(Array.from({ length: 20 }, () => wide.http.get("/json")))
      expect(after.map(({ status, text }) => `${status} ${text}`)).to.deep.equal(Array(20).fill("200 0"))
      await wide.settled()
      expect(wide.maker.stats().pool.size).to.be.at.most(5)
    } finally {
      await wide.stop()
    }
  })
})

describeOnEach(
  "ROLLBACK fails",
  servers.filter(({ kind }) => kind === "postgres"),
  (database) => {
    it("answers with the action's error, ends the connection and reports the second failure", async () => {
      const server = await startSessionApp(database, { maker: { poolSize: 1 } })
      try {
        server.work = async (db) => {
          await db.insert(Note, { text: "lost" })
          server.wire?.cutOn(/^ROLLBACK/, "before")
          throw new HttpError(418, "short and stout")
        }
        const reply = await server.http.post("/json")
        await server.settled()
        expect(reply.status).to.equal(418)
        expect(server.errors.errors().map(String)).to.satisfy((all: string[]) =>
          all.some((text) => /Connection terminated|ECONNRESET/.test(text)),
        )
        expect(server.maker.stats().pool.size).to.equal(0)
        server.work = (db) => db.count(Note)
        expect((await server.http.get("/json")).text).to.equal("0")
        await server.settled()
        expect(server.maker.stats().pool.size).to.equal(1)
      } finally {
        await server.stop()
      }
    })
  },
)
