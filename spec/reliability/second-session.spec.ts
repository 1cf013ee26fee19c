import { expect } from "chai"
import { AcquireTimeoutError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"

describeOnEach("a second, independent session inside a request with a pool of 1", shared, (database) => {
  it("fails within acquireTimeoutMs with an error that names the request that holds the connection", async () => {
    const server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 150 } })
    try {
      let seen: unknown
      let tookMs = 0
      server.work = async (db) => {
        await db.insert(Note, { text: "outer" })
        const startedAt = performance.now()
        try {
          await server.maker.run((second) => second.insert(Note, { text: "inner" }))
        } catch (error) {
          tookMs = performance.now() - startedAt
          seen = error
          throw error
        }
      }
      const reply = await server.http.post("/json")
      await server.settled()
      expect(reply.status).to.equal(503)
      expect(seen).to.be.instanceOf(AcquireTimeoutError)
      expect(String(seen)).to.match(/maker\.run\(\).* within 150 ms: all 1 are held by POST \/json \(for \d+ ms\)/)
      expect(tookMs).to.be.within(130, 450)
      expect(await server.rows("SELECT * FROM note")).to.deep.equal([])
      server.work = async (db) => {
        await db.insert(Note, { text: "next" })
        return { ok: true }
      }
      expect((await server.http.post("/json")).status).to.equal(200)
    } finally {
      await server.stop()
    }
  })
})
