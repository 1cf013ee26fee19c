import { expect } from "chai"
import { AcquireTimeoutError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"
import { eventually } from "./support/eventually"
import { occupy } from "./support/occupied"

const ACQUIRE_MS = 200

describeOnEach("the pool is exhausted", shared, (database) => {
  // SQLite has one writer whatever the pool's size.
  for (const poolSize of database.kind === "sqlite" ? [1] : [1, 3]) {
    describe(`with a pool of ${poolSize}`, () => {
      let server: SessionApp
      beforeEach(async () => {
        server = await startSessionApp(database, { maker: { poolSize, acquireTimeoutMs: ACQUIRE_MS } })
      })
      afterEach(() => server.stop())

      it("answers 503 with Retry-After within acquireTimeoutMs, and the log names the holders", async () => {
        const occupied = await occupy(server, poolSize)
        server.work = (db) => db.insert(Note, { text: "refused" })
        const startedAt = performance.now()
        const replies = await Promise.all(Array.from({ length: 10 }, () => server.http.post("/json")))
        const tookMs = performance.now() - startedAt
        expect([...new Set(replies.map(({ status }) => status))]).to.deep.equal([503])
        expect(replies[0]?.headers["retry-after"]).to.equal("1")
        expect(tookMs).to.be.within(ACQUIRE_MS - 20, ACQUIRE_MS + 300)
        const [error] = server.errors.errors()
        expect(error).to.be.instanceOf(AcquireTimeoutError)
        expect(String(error)).to.match(/held by POST \/json \(for \d+ ms\)/)
        occupied.release()
        expect(await occupied.statuses).to.deep.equal(Array(poolSize).fill(200))
        await server.settled()
        expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
        expect(await server.rows("SELECT text FROM note WHERE text = 'refused'")).to.deep.equal([])
      })

      it("lets a client that aborts while queued leave the queue, and loses no slot", async () => {
        const occupied = await occupy(server, poolSize)
        let queued = 0
        server.work = async (db) => {
          queued++
          await db.insert(Note, { text: `queued ${queued}` })
          return { ok: true }
        }
        for (let round = 0; round < 5; round++) {
          const clients = Array.from({ length: 4 }, () => server.http.startRequest("/json", { method: "POST" }))
          await eventually("they are queued", () => server.maker.stats().waiting === 4)
          for (const client of clients) client.destroy()
          const tookMs = await eventually("they have left", () => server.maker.stats().waiting === 0)
          expect(tookMs).to.be.below(ACQUIRE_MS - 50)
        }
        expect(server.maker.stats()).to.include({ open: poolSize, active: poolSize })
        occupied.release()
        await occupied.statuses
        await server.settled()
        expect(server.errors.errors()).to.deep.equal([])
        // Every slot is there: as many hold at once as before.
        const again = await reoccupy(server, poolSize)
        expect(again).to.deep.equal(Array(poolSize).fill(200))
        const refused = await server.rows("SELECT text FROM note WHERE text LIKE 'queued%'")
        expect(refused).to.deep.equal([])
      })
    })
  }

  it("serves those who wait in the order they came", async () => {
    const server = await startSessionApp(database, { maker: { poolSize: 1 } })
    try {
      const occupied = await occupy(server, 1)
      server.work = async (db, ctx) => {
        await db.insert(Note, { text: String(ctx.query.text) })
        return { ok: true }
      }
      const replies = []
      for (let index = 0; index < 5; index++) {
        replies.push(server.http.post(`/json?text=queued${index}`))
        await eventually("it is queued", () => server.maker.stats().waiting === index + 1)
      }
      occupied.release()
      await Promise.all(replies)
      const rows = await server.rows("SELECT text FROM note WHERE text LIKE 'queued%' ORDER BY id")
      expect(rows.map(({ text }) => text)).to.deep.equal(["queued0", "queued1", "queued2", "queued3", "queued4"])
    } finally {
      await server.stop()
    }
  })
})

async function reoccupy(server: SessionApp, count: number): Promise<number[]> {
  const occupied = await occupy(server, count)
  occupied.release()
  return occupied.statuses
}
