import { once } from "node:events"
import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, type SessionFixture, useSessions } from "../support/session-fixture"

const poolSize = 4

/** Opens every connection of the pool, and gives them all back. */
async function fillPool({ maker, log }: SessionFixture): Promise<void> {
  const sessions = await Promise.all(Array.from({ length: poolSize }, () => maker.open()))
  await Promise.all(sessions.map((session) => session.query("SELECT 1")))
  await Promise.all(sessions.map((session) => session.close()))
  expect(maker.stats().pool).to.deep.equal({ size: poolSize, max: poolSize })
  log.clear()
}

describeOnEach(
  "pooled connections that died while idle",
  sessionDatabases.filter(({ kind }) => kind === "postgres"),
  (database) => {
    const fixture = useSessions(database, { poolSize })

    beforeEach(() => fillPool(fixture))

    it("cost no request when the server ended them all", async () => {
      await fixture.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()",
      )
      await Promise.all(
        Array.from({ length: 2 * poolSize }, (_, index) =>
          fixture.maker.run((session) => session.insert(Note, { text: `${index}` })),
        ),
      )
      expect(await fixture.texts()).to.have.length(2 * poolSize)
      expect(fixture.maker.stats()).to.deep.include({ committed: 2 * poolSize, failed: 0 })
    })

    it("cost no request when the network is cut, and the client has not noticed", async () => {
      // In the same turn as the statements: their sockets are dead, and nobody has told the pool.
      fixture.wire.cut()
      await Promise.all(
        Array.from({ length: poolSize }, (_, index) =>
          fixture.maker.run((session) => session.insert(Note, { text: `${index}` })),
        ),
      )
      expect(await fixture.texts()).to.have.length(poolSize)
      const inserts = fixture.log.verbs().filter((verb) => verb === "INSERT")
      expect(inserts).to.have.length(poolSize)
    })

    it("are replaced without a ping", async () => {
      fixture.wire.cut()
      await fixture.maker.run((session) => session.insert(Note, { text: "a" }))
      expect(new Set(fixture.log.verbs())).to.not.include("SELECT")
      expect(fixture.log.verbs().slice(-3)).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
    })

    it("are replaced as well where a result stream comes first", async () => {
      fixture.wire.cut()
      await fixture.maker.run(async (session) => {
        const stream = await session.createQueryBuilder(Note, "note").stream()
        stream.resume()
        await once(stream, "end")
      })
      expect(fixture.maker.stats().failed).to.equal(0)
    })

    it("fail the statement when the connection dies in its transaction, and it is not sent again", async () => {
      const session = await fixture.maker.open()
      await session.insert(Note, { text: "a" })
      fixture.wire.cutOn(/INSERT/, "before")
      await expect(session.insert(Note, { text: "b" })).to.be.rejectedWith("Connection terminated unexpectedly")
      await session.close()
      expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "INSERT"])
      expect(await fixture.texts()).to.deep.equal([])
    })

    it("do not make a statement that ends its own connection run without end", async () => {
      const poison = fixture.maker.run((session) => session.query("SELECT pg_terminate_backend(pg_backend_pid())"))
      await expect(poison).to.be.rejectedWith("terminating connection")
      expect(fixture.log.verbs().filter((verb) => verb === "SELECT")).to.have.length(1)
    })
  },
)
