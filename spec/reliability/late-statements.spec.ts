import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { expect } from "chai"
import type { Session } from "../../src/decorators/session"
import { SessionClosedError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"

describeOnEach("a statement comes after the response", shared, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database)
  })
  afterEach(() => server.stop())

  it("is refused with SessionClosedError, reported with its route, and takes no connection", async () => {
    const answered = new Deferred()
    let late: Promise<unknown> = Promise.resolve()
    server.work = async (db) => {
      await db.insert(Note, { text: "in time" })
      late = answered.promise.then(() => db.insert(Note, { text: "late" }))
      // What the action forgot is nobody's to handle.
      late.catch(() => undefined)
      return { ok: true }
    }
    expect((await server.http.post("/json")).status).to.equal(200)
    await server.settled()
    server.log.clear()
    const counted: unknown[] = []
    const count = (event: unknown) => counted.push(event)
    subscribe("routing-controllers-typeorm:statement.refused", count)
    answered.resolve()
    await expect(late).to.be.rejectedWith(SessionClosedError).and.eventually.include({ code: "ERR_SESSION_CLOSED" })
    unsubscribe("routing-controllers-typeorm:statement.refused", count)
    expect(counted).to.have.length(1).with.property("0").that.includes({ label: "POST /json", count: 1 })
    const [{ error, ctx } = { error: undefined, ctx: undefined }] = server.errors.all()
    expect(error).to.be.instanceOf(SessionClosedError).with.property("message").that.includes("POST /json")
    expect(ctx?.path).to.equal("/json")
    expect(server.log.verbs()).to.deep.equal([])
    expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0, committed: 1 })
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "in time" }])
  })

  it("is refused through whatever was kept of the session", async () => {
    let kept: Session | undefined
    server.work = (db) => {
      kept = db
      return { ok: true }
    }
    await server.http.get("/json")
    await server.settled()
    const db = kept as Session
    const repository = db.getRepository(Note)
    const late = [
      () => db.find(Note),
      () => db.save(Note, { text: "late" }),
      () => repository.find(),
      () => repository.createQueryBuilder("note").getMany(),
      () => db.query("SELECT 1"),
      () => db.transaction(async (inner) => inner.find(Note)),
      () => db.commit(),
      () => db.queryRunner?.query("SELECT 1"),
      () => db.queryRunner?.connect(),
    ]
    for (const call of late) {
      await expect(Promise.resolve().then(call), String(call)).to.be.rejectedWith(SessionClosedError)
    }
    expect(server.log.verbs()).to.deep.equal([])
    expect(server.maker.stats()).to.include({ open: 0, active: 0 })
  })
})
