import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { Counter } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

const REQUESTS = 200

describeOnEach(`${REQUESTS} concurrent read-then-write requests on one row`, httpDatabases, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 5, acquireTimeoutMs: 30_000 } })
    await server.maker.run((db) => db.insert(Counter, { id: 1, value: 0 }))
    server.work = async (db) => {
      const lock = database.kind === "postgres" ? { lock: { mode: "pessimistic_write" as const } } : {}
      const counter = await db.findOneOrFail(Counter, { where: { id: 1 }, ...lock })
      await new Promise((resolve) => setImmediate(resolve))
      counter.value++
      await db.save(counter)
      return { value: counter.value }
    }
  })
  afterEach(() => server.stop())

  it("lose no update, fail none and leave nothing over", async () => {
    const replies = await Promise.all(Array.from({ length: REQUESTS }, () => server.http.post("/json")))
    await server.settled()
    expect(replies.filter(({ status }) => status !== 200)).to.deep.equal([])
    const values = replies.map((reply) => reply.json<{ value: number }>().value)
    expect(new Set(values).size).to.equal(REQUESTS)
    expect(await server.rows("SELECT value FROM counter")).to.deep.equal([{ value: REQUESTS }])
    expect(server.errors.errors()).to.deep.equal([])
    const { open, active, waiting, pool } = server.maker.stats()
    expect({ open, active, waiting }).to.deep.equal({ open: 0, active: 0, waiting: 0 })
    expect(pool.size).to.be.at.most(pool.max)
  })

  it("leave nothing over where half of them fail and half of the rest are left by their clients", async () => {
    const { work } = server
    let calls = 0
    server.work = async (db, ctx) => {
      const call = calls++
      const result = await work(db, ctx)
      if (call % 2 === 0) throw new Error("The action failed.")
      return result
    }
    const started = Array.from({ length: REQUESTS }, () => server.http.startRequest("/json", { method: "POST" }))
    const replies = started.map((request) => request.reply().catch(() => undefined))
    await replies[0]
    for (const [index, request] of started.entries()) if (index % 4 === 1) request.destroy()
    const answered = await Promise.all(replies)
    await server.settled()
    const [row] = await server.rows("SELECT value FROM counter")
    expect(row?.value).to.be.at.least(answered.filter((reply) => reply?.status === 200).length)
    expect(row?.value).to.be.at.most(REQUESTS / 2)
    expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
  })
})
