import { expect } from "chai"
import { describeOnEach, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Counter, Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { eventually } from "./support/eventually"

describeOnEach("statements issued in parallel on one session", testDatabases, (database) => {
  let server: SessionApp
  let warnings: Error[]
  const note = (warning: Error) => warnings.push(warning)

  beforeEach(async () => {
    warnings = []
    process.on("warning", note)
    server = await startSessionApp(database)
  })
  afterEach(async () => {
    await server.stop()
    process.off("warning", note)
    expect(warnings).to.deep.equal([])
  })

  const texts = async () => (await server.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text)

  it("ten with Promise.all: run in the order issued, in one transaction", async () => {
    server.work = async (db) => {
      await Promise.all(Array.from({ length: 10 }, (_, index) => db.insert(Note, { text: `note ${index}` })))
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    if (database.kind !== "mysql") {
      expect(server.log.verbs()).to.deep.equal(["BEGIN", ...Array(10).fill("INSERT"), "COMMIT"])
    }
    expect(await texts()).to.deep.equal(Array.from({ length: 10 }, (_, index) => `note ${index}`))
  })

  it("three transaction() blocks of which one throws: the others are kept, the savepoints intact", async () => {
    let outcomes: string[] = []
    server.work = async (db) => {
      const settled = await Promise.allSettled(
        [0, 1, 2].map((block) =>
          db.transaction(async (inner) => {
            await inner.insert(Note, { text: `block ${block}` })
            await inner.insert(Counter, { id: block, value: 0 })
            if (block === 1) throw new Error("The block failed.")
            await inner.insert(Note, { text: `block ${block}, later` })
          }),
        ),
      )
      outcomes = settled.map(({ status }) => status)
      await db.insert(Note, { text: "after" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(outcomes).to.deep.equal(["fulfilled", "rejected", "fulfilled"])
    expect(await texts()).to.deep.equal(["block 0", "block 0, later", "block 2", "block 2, later", "after"])
    const counters = await server.rows("SELECT id FROM counter ORDER BY id")
    expect(counters.map(({ id }) => id)).to.deep.equal([0, 2])
  })

  it("three blocks with Promise.all of which one throws: the request fails and nothing is kept", async () => {
    server.work = async (db) => {
      await Promise.all(
        [0, 1, 2].map((block) =>
          db.transaction(async (inner) => {
            await inner.insert(Note, { text: `block ${block}` })
            if (block === 1) throw new Error("The block failed.")
            await inner.insert(Note, { text: `block ${block}, later` })
          }),
        ),
      )
    }
    expect((await server.http.post("/json")).status).to.equal(500)
    await server.settled()
    expect(await texts()).to.deep.equal([])
  })

  it("a failing and a slow write: nothing of the failed request is committed later", async () => {
    const failed = new Deferred()
    let late: Promise<unknown> = Promise.resolve()
    server.work = async (db) => {
      const slow = async () => {
        await db.insert(Note, { text: "slow, first" })
        await failed.promise
        await db.insert(Note, { text: "slow, second" })
        await db.commit()
      }
      late = slow()
      late.catch(() => undefined)
      await Promise.all([late, db.query("INSERT INTO no_such_table VALUES (1)")])
    }
    expect((await server.http.post("/json")).status).to.equal(500)
    failed.resolve()
    await expect(late).to.be.rejected
    await eventually("the session has ended", () => server.maker.stats().open === 0)
    expect(await texts()).to.deep.equal([])
    server.work = (db) => db.count(Note)
    expect((await server.http.get("/json")).text).to.equal("0")
  })

  it("50 requests at once that each do all of this leave the pool whole", async () => {
    let next = 0
    server.work = async (db) => {
      const own = next++
      await Promise.all([
        db.save(Note, { text: `a ${own}` }),
        db.transaction(async (inner) => inner.save(Note, { text: `b ${own}` })),
        db.count(Note),
        db.transaction(async (inner) => {
          await inner.save(Note, { text: `c ${own}` })
          if (own % 2 === 0) throw new Error("The block failed.")
        }),
      ])
      return { ok: true }
    }
    const replies = await Promise.all(Array.from({ length: 50 }, () => server.http.post("/json")))
    const statuses = replies.map(({ status }) => status).sort()
    expect(statuses).to.deep.equal([...Array(25).fill(200), ...Array(25).fill(500)])
    await server.settled()
    const [row] = await server.rows("SELECT count(*) AS n FROM note")
    expect(Number(row?.n)).to.equal(75)
    expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0, committed: 25, rolledBack: 25 })
  })
})
