import { expect } from "chai"
import type { Session } from "../../src/session/session"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

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

  it("is ended instead where a transaction is open on it, and the next one has another connection", async () => {
    const id = database.kind === "postgres" ? "SELECT pg_backend_pid() AS id" : "SELECT CONNECTION_ID() AS id"
    const idOf = async (session: Session): Promise<unknown> => (await session.query(id))[0].id
    const first = await fixture.maker.open()
    const firstId = await idOf(first)
    const next = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "next" })
      return idOf(session)
    })
    await new Promise(setImmediate)
    expect(fixture.maker.stats().waiting).to.equal(1)
    await first.insert(Note, { text: "kept" })
    // Its transaction has ended, and another one is open that nobody asked for.
    await first.query("COMMIT AND CHAIN")
    expect(await next).to.not.equal(firstId)
    await first.close()
    expect(await fixture.texts()).to.deep.equal(["kept", "next"])
  })

  it("is ended instead where something that was sent on it is not answered, and the next one does not wait for that", async () => {
    const id = database.kind === "postgres" ? "SELECT pg_backend_pid() AS id" : "SELECT CONNECTION_ID() AS id"
    const first = await fixture.maker.open()
    const [{ id: firstId }] = await first.query(id)
    await first.insert(Note, { text: "undone" })
    const client = (await first.queryRunner?.connect()) as { query(text: string, done: () => void): void }
    client.query(database.kind === "postgres" ? "SELECT pg_sleep(3)" : "SELECT sleep(3)", () => undefined)
    const startedAt = performance.now()
    await first.rollback()
    const nextId = await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "after it" })
      return (await session.query(id))[0].id
    })
    expect(performance.now() - startedAt).to.be.below(2_000)
    expect(nextId).to.not.equal(firstId)
    await first.close()
    expect((await fixture.texts()).filter((text) => text === "undone" || text === "after it")).to.deep.equal([
      "after it",
    ])
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
