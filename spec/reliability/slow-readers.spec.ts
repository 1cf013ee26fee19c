import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { readReply } from "../support/http"
import { Note } from "../support/http-entities"
import { startSessionApp } from "../support/session-app"
import { servers, shared } from "./support/databases"

const READERS = 200
const BODY = { text: "x".repeat(1_048_576) }

describeOnEach("200 slow readers of a buffered JSON body of 1 MiB with a pool of 5", shared, (database) => {
  it("hold no connection and delay no other request", async function () {
    this.timeout(60_000)
    const server = await startSessionApp(database, { maker: { poolSize: 5, acquireTimeoutMs: 5_000 } })
    try {
      server.work = async (db, ctx) => {
        if (ctx.query.large === undefined) return db.query("SELECT 7 AS seven")
        if (ctx.method === "POST") await db.insert(Note, { text: String(ctx.query.large) })
        else await db.count(Note)
        return BODY
      }
      // Their heads come; their bodies are left in the socket until they are read.
      const readers = await Promise.all(
        Array.from({ length: READERS }, async (_, index) => {
          const method = index % 2 === 0 ? "GET" : "POST"
          return server.http.startRequest(`/json?large=${index}`, { method }).response
        }),
      )
      expect([...new Set(readers.map(({ statusCode }) => statusCode))]).to.deep.equal([200])
      expect(server.maker.stats()).to.include({ active: 0, waiting: 0 })
      const startedAt = performance.now()
      const others = await Promise.all(Array.from({ length: 50 }, () => server.http.get("/json")))
      expect([...new Set(others.map(({ status }) => status))]).to.deep.equal([200])
      expect(performance.now() - startedAt).to.be.below(4_000)
      expect(server.maker.stats().pool.size).to.be.at.most(server.maker.stats().pool.max)
      const bodies = await Promise.all(readers.slice(0, 3).map(readReply))
      expect(bodies.map(({ text }) => text.length)).to.deep.equal(Array(3).fill(JSON.stringify(BODY).length))
      for (const reader of readers.slice(3)) reader.destroy()
      await server.settled()
      expect(server.maker.stats().committed).to.be.at.least(READERS)
    } finally {
      await server.stop()
    }
  })
})

describeOnEach("a slow reader of a result stream", servers, (database) => {
  it("holds one connection and no more", async () => {
    const server = await startSessionApp(database, { maker: { poolSize: 2, acquireTimeoutMs: 5_000 } })
    try {
      await server.maker.run(async (session) => {
        for (let index = 0; index < 20; index++) await session.insert(Note, { text: `note ${index}` })
      })
      server.work = async (db, ctx) => {
        if (ctx.query.stream === undefined) return db.query("SELECT 7 AS seven")
        const sql = "SELECT repeat('x', 100000) AS text FROM note a CROSS JOIN note b"
        const rows = await db.queryRunner?.stream(sql)
        const { Readable } = await import("node:stream")
        async function* lines() {
          for await (const row of rows as AsyncIterable<{ text: string }>) yield `${row.text}\n`
        }
        return Readable.from(lines())
      }
      const slow = await server.http.startRequest("/text?stream").response
      expect(slow.statusCode).to.equal(200)
      expect(server.maker.stats()).to.include({ open: 1, active: 1 })
      const others = await Promise.all(Array.from({ length: 20 }, () => server.http.get("/json")))
      expect([...new Set(others.map(({ status }) => status))]).to.deep.equal([200])
      expect(server.maker.stats().pool.size).to.equal(2)
      const { text } = await readReply(slow)
      expect(text.length).to.equal(400 * 100_001)
      await server.settled()
      expect(server.maker.stats().active).to.equal(0)
    } finally {
      await server.stop()
    }
  })
})
