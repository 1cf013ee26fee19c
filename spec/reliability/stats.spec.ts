import { expect } from "chai"
import type { SessionMakerStats } from "../../src/session/session-maker"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"
import { eventually } from "./support/eventually"

describeOnEach("maker.stats() is exact at every step of a request", shared, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 1_000 } })
  })
  afterEach(() => server.stop())

  const counts = (): Partial<SessionMakerStats> => {
    const { open, active, idle, waiting, committed, rolledBack, failed } = server.maker.stats()
    return { open, active, idle, waiting, committed, rolledBack, failed }
  }
  const none = { open: 0, active: 0, idle: 0, waiting: 0, committed: 0, rolledBack: 0, failed: 0 }

  it("before, during and after one request", async () => {
    const seen: Partial<SessionMakerStats>[] = []
    expect(counts()).to.deep.equal(none)
    expect(server.maker.stats().longestActiveMs).to.equal(0)
    server.work = async (db) => {
      seen.push(counts())
      await db.insert(Note, { text: "a" })
      seen.push(counts())
      expect(server.maker.stats().longestActiveMs).to.be.within(0.001, 5_000)
      await db.commit()
      seen.push(counts())
      await db.insert(Note, { text: "b" })
      await db.rollback()
      seen.push(counts())
      await db.insert(Note, { text: "c" })
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    expect(seen).to.deep.equal([
      { ...none, open: 1, idle: 1 },
      { ...none, open: 1, active: 1 },
      { ...none, open: 1, idle: 1, committed: 1 },
      { ...none, open: 1, idle: 1, committed: 1, rolledBack: 1 },
    ])
    expect(counts()).to.deep.equal({ ...none, committed: 2, rolledBack: 1 })
    expect(server.maker.stats().longestActiveMs).to.equal(0)
    expect(server.maker.stats().pool.size).to.be.at.least(1)
  })

  it("while requests wait for a connection, time out, and go away", async () => {
    const leave = new Deferred()
    server.work = async (db) => {
      await db.insert(Note, { text: "holder" })
      await leave.promise
      return { ok: true }
    }
    const holder = server.http.post("/json")
    await eventually("it holds", () => server.maker.stats().active === 1 && server.maker.stats().pool.size >= 1)
    server.work = (db) => db.insert(Note, { text: "waiting" })
    const waiting = Array.from({ length: 3 }, () => server.http.startRequest("/json", { method: "POST" }))
    await eventually("three wait", () => server.maker.stats().waiting === 3)
    expect(counts()).to.deep.equal({ ...none, open: 4, active: 4, waiting: 3 })
    waiting[0]?.destroy()
    await eventually("one has gone", () => server.maker.stats().open === 3)
    expect(counts()).to.deep.equal({ ...none, open: 3, active: 3, waiting: 2 })
    const replies = await Promise.all(waiting.slice(1).map((one) => one.reply()))
    expect(replies.map(({ status }) => status)).to.deep.equal([503, 503])
    await eventually("they have ended", () => server.maker.stats().open === 1)
    expect(counts()).to.deep.equal({ ...none, open: 1, active: 1 })
    leave.resolve()
    expect((await holder).status).to.equal(200)
    await server.settled()
    expect(counts()).to.deep.equal({ ...none, committed: 1 })
  })

  it("counts every transaction of 200 requests once, however it ended", async () => {
    server.work = async (db, ctx) => {
      const n = Number(ctx.query.n)
      if (n % 5 === 0) return { ok: true }
      await db.insert(Note, { text: `note ${n}` })
      if (n % 5 === 1) throw new Error("The action failed.")
      if (n % 5 === 2) await db.query("SELECT * FROM no_such_table").catch(() => undefined)
      return { ok: true }
    }
    const replies: number[] = []
    // The pool has one connection and a short patience: not all at once.
    for (let batch = 0; batch < 40; batch++) {
      const numbers = Array.from({ length: 5 }, (_, index) => batch * 5 + index)
      const answered = await Promise.all(numbers.map((n) => server.http.post(`/json?n=${n}`)))
      replies.push(...answered.map(({ status }) => status))
    }
    await server.settled()
    expect(replies.filter((status) => status === 200)).to.have.length(120)
    expect(counts()).to.deep.equal({ ...none, committed: 80, rolledBack: 40, failed: 40 })
  })
})
