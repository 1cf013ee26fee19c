import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { useSessions } from "../support/session-fixture"

const pooled = sessionDatabases.filter(({ kind }) => kind === "postgres" || kind === "mysql")

describeOnEach("a connection that another session waits for", pooled, (database) => {
  const fixture = useSessions(database, { poolSize: 1 })

  /** Asks often enough for somebody to wait whenever the connection comes free. */
  async function keepSessionsWaiting(until: () => boolean): Promise<number> {
    let runs = 0
    const worker = async () => {
      while (!until() && runs < 500) {
        runs++
        await fixture.maker.run((session) => session.query("SELECT 1"))
      }
    }
    await Promise.all([worker(), worker(), worker()])
    return runs
  }

  it("goes to each of them in turn, is one and the same, and comes back in the end", async () => {
    const id = database.kind === "postgres" ? "SELECT pg_backend_pid() AS id" : "SELECT CONNECTION_ID() AS id"
    const order: number[] = []
    const found = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        fixture.maker.run(async (session) => {
          const [row] = await session.query(id)
          order.push(index)
          return row.id
        }),
      ),
    )
    expect(new Set(found).size).to.equal(1)
    expect(order).to.deep.equal(Array.from({ length: 20 }, (_, index) => index))
    expect(fixture.maker.stats()).to.deep.include({ open: 0, waiting: 0, pool: { size: 1, max: 1 } })
    expect(await (await fixture.maker.dataSource()).query("SELECT 1 AS one")).to.have.length(1)
  })

  it("goes to code outside of sessions that waited for it, too", async () => {
    const dataSource = await fixture.maker.dataSource()
    let isServed = false
    const outside = async () => {
      await new Promise(setImmediate)
      await dataSource.query("SELECT 1")
      isServed = true
    }
    const [runs] = await Promise.all([keepSessionsWaiting(() => isServed), outside()])
    expect(isServed).to.equal(true)
    expect(runs, "sessions that overtook it").to.be.below(50)
  })
})
