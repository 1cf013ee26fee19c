import { expect } from "chai"
import { resolveSessionOptions } from "../../src/session/options"
import type { Session } from "../../src/session/session"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

describeOnEach("Session.afterCommit() and Session.afterRollback()", sessionDatabases, (database) => {
  const fixture = useSessions(database)
  let events: string[]
  let reported: unknown[]

  beforeEach(() => {
    events = []
    reported = []
  })

  async function open(): Promise<Session> {
    const report = (error: unknown) => reported.push(error)
    return fixture.maker.openWith(resolveSessionOptions(), { asWriter: true, label: () => "spec", report })
  }

  function register(session: Session, name: string): void {
    session.afterCommit(() => events.push(`${name} committed`))
    session.afterRollback(() => events.push(`${name} rolled back`))
  }

  it("run in order once the commit is durable, each waiting for the one before", async () => {
    const session = await open()
    await session.insert(Note, { text: "a" })
    session.afterCommit(async () => {
      events.push(`1: ${await fixture.texts()}`)
    })
    session.afterCommit(() => events.push("2"))
    session.afterRollback(() => events.push("never"))
    await session.commit()
    expect(events).to.deep.equal(["1: a", "2"])
    await session.insert(Note, { text: "b" })
    await session.commit()
    expect(events).to.have.length(2)
    await session.close()
  })

  it("run once it is rolled back: by rollback(), by close(), by a failed run()", async () => {
    const session = await open()
    for (const end of ["rollback", "close"] as const) {
      register(session, end)
      await session.insert(Note, { text: end })
      await session[end]()
    }
    const failed = fixture.maker.run(async (other) => {
      register(other, "run")
      await other.insert(Note, { text: "run" })
      throw new Error("no")
    })
    await expect(failed).to.be.rejectedWith("no")
    expect(events).to.deep.equal(["rollback rolled back", "close rolled back", "run rolled back"])
  })

  it("run as rolled back where the commit is refused", async () => {
    const session = await open()
    register(session, "x")
    await expect(session.query("NONSENSE")).to.be.rejectedWith("NONSENSE")
    await expect(session.commit()).to.be.rejectedWith("aborted")
    await session.close()
    expect(events).to.deep.equal(["x rolled back"])
  })

  it("that were registered in a block which was rolled back never run as committed", async () => {
    const session = await open()
    await session.insert(Note, { text: "a" })
    const block = session.transaction(async (outer) => {
      register(outer, "outer")
      await outer.transaction(async (inner) => {
        register(inner, "inner")
        await inner.insert(Note, { text: "b" })
      })
      // Through the outer variable: it is registered in the block all the same.
      register(session, "session in block")
      throw new Error("undo")
    })
    await expect(block).to.be.rejectedWith("undo")
    expect(events).to.deep.equal(["outer rolled back", "inner rolled back", "session in block rolled back"])
    register(session, "session")
    await session.transaction(async (kept) => register(kept, "kept"))
    await session.commit()
    await session.close()
    expect(events.slice(3)).to.deep.equal(["session committed", "kept committed"])
  })

  it("that throw are reported, undo nothing and stop no other", async () => {
    const session = await open()
    await session.insert(Note, { text: "a" })
    const failures = [new Error("sync"), new Error("async")]
    session.afterCommit(() => {
      throw failures[0]
    })
    session.afterCommit(async () => {
      throw failures[1]
    })
    session.afterCommit(() => events.push("last"))
    await session.commit()
    await session.close()
    expect(events).to.deep.equal(["last"])
    expect(reported).to.deep.equal(failures)
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  it("may use the session, in a transaction of their own, and close it", async () => {
    const session = await open()
    await session.insert(Note, { text: "a" })
    session.afterCommit(async () => {
      await session.insert(Note, { text: "b" })
      await session.commit()
    })
    session.afterCommit(() => session.close())
    await session.commit()
    expect(session.closed).to.equal(true)
    expect(reported).to.deep.equal([])
    expect(await fixture.texts()).to.deep.equal(["a", "b"])
  })

  it("that use the session after the commit of run() are refused and reported, and the commit stands", async () => {
    const outcome: unknown[] = []
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      session.afterCommit(() => session.count(Note).catch((error: unknown) => outcome.push(error)))
    })
    expect(outcome).to.have.length(1).and.have.nested.property("0.code", "ERR_SESSION_CLOSED")
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  it("run at the end of run() also where no statement ran", async () => {
    await fixture.maker.run(async (session) => register(session, "idle"))
    expect(events).to.deep.equal(["idle committed"])
    expect(fixture.log.statements()).to.deep.equal([])
  })
})
