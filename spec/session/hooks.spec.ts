import { expect } from "chai"
import { CommitOutcomeUnknownError, SessionClosedError } from "../../src/errors"
import { getSession } from "../../src/koa/sessions"
import { resolveSessionOptions } from "../../src/session/options"
import type { Session } from "../../src/session/session"
import { servers } from "../reliability/support/databases"
import { type NetworkApp, startNetworkApp } from "../reliability/support/network-app"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { type SessionApp, startSessionApp } from "../support/session-app"
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

describeOnEach("what hooks can use", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("at the end of run() is a session of their own: that of the run is closed", async () => {
    const seen: unknown[] = []
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      session.afterCommit(async () => {
        seen.push(session.closed)
        await expect(session.insert(Note, { text: "lost" })).to.be.rejectedWith(SessionClosedError)
        expect(() => session.afterCommit(() => undefined)).to.throw(SessionClosedError)
        await fixture.maker.run((own) => own.insert(Note, { text: "by run()" }))
        await using own = await fixture.maker.open()
        await own.insert(Note, { text: "by open()" })
        await own.commit()
      })
    })
    expect(seen).to.deep.equal([true])
    expect(await fixture.texts()).to.deep.equal(["a", "by run()", "by open()"])
  })

  it("at the end of a run() that failed is a session of their own as well", async () => {
    const failed = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "lost" })
      session.afterRollback(async () => {
        await expect(session.count(Note)).to.be.rejectedWith(SessionClosedError)
        await fixture.maker.run((own) => own.insert(Note, { text: "log of failures" }))
      })
      throw new Error("undo")
    })
    await expect(failed).to.be.rejectedWith("undo")
    expect(await fixture.texts()).to.deep.equal(["log of failures"])
  })

  it("after commit() and rollback() by hand is the session, in its next transaction", async () => {
    await fixture.maker.run(async (session) => {
      session.afterCommit(() => session.insert(Note, { text: "after the commit" }))
      await session.insert(Note, { text: "a" })
      await session.commit()
      session.afterRollback(() => session.insert(Note, { text: "after the rollback" }))
      await session.insert(Note, { text: "lost" })
      // Takes what the first hook wrote along; what the second one writes is committed with the run.
      await session.rollback()
    })
    expect(await fixture.texts()).to.deep.equal(["a", "after the rollback"])
  })
})

describeOnEach("what hooks of a request can use", sessionDatabases, (database) => {
  let app: SessionApp
  beforeEach(async () => {
    app = await startSessionApp(database)
  })
  afterEach(() => app.stop())

  for (const commit of ["before-response", "after-response"] as const) {
    it(`is a session of their own: that of the request is closed (commit: ${commit})`, async () => {
      const ran = new Deferred<unknown>()
      app.work = async (_, ctx) => {
        const session = await getSession(ctx, { commit })
        await session.insert(Note, { text: "a" })
        session.afterCommit(async () => {
          const late = await session.count(Note).catch((error: unknown) => error)
          await app.maker.run((own) => own.insert(Note, { text: "by run()" }))
          ran.resolve([session.closed, (late as { code?: string }).code])
        })
        return {}
      }
      expect((await app.http.post("/json")).status).to.equal(200)
      await app.settled()
      expect(await ran.promise).to.deep.equal([true, "ERR_SESSION_CLOSED"])
      expect(await app.rows("SELECT text FROM note ORDER BY id")).to.deep.equal([{ text: "a" }, { text: "by run()" }])
    })
  }

  it("is a session of their own after a failure as well, and the session itself after commit() by hand", async () => {
    app.work = async (session) => {
      session.afterCommit(() => session.insert(Note, { text: "undone with the request" }))
      await session.insert(Note, { text: "kept" })
      await session.commit()
      session.afterRollback(() => app.maker.run((own) => own.insert(Note, { text: "log of failures" })))
      throw new Error("the action fails")
    }
    expect((await app.http.post("/json")).status).to.equal(500)
    await app.settled()
    const rows = await app.rows("SELECT text FROM note ORDER BY text")
    expect(rows).to.deep.equal([{ text: "kept" }, { text: "log of failures" }])
  })
})

describeOnEach("Session.afterCompletion()", sessionDatabases, (database) => {
  const fixture = useSessions(database)
  let events: string[]
  beforeEach(() => {
    events = []
  })

  const follow = (session: Session, name: string): void =>
    session.afterCompletion((outcome) => events.push(`${name} ${outcome}`))

  it("runs once, with the outcome: after commit(), rollback(), close(), run() and a run() that failed", async () => {
    const session = await fixture.maker.open()
    for (const end of ["commit", "rollback", "close"] as const) {
      follow(session, end)
      await session.insert(Note, { text: end })
      await session[end]()
    }
    await session.close()
    await fixture.maker.run(async (own) => follow(own, "run without a statement"))
    await fixture.maker.run(async (own) => {
      follow(own, "run")
      await own.insert(Note, { text: "run" })
    })
    const failed = fixture.maker.run(async (own) => {
      follow(own, "failed run")
      await own.insert(Note, { text: "failed run" })
      throw new Error("undo")
    })
    await expect(failed).to.be.rejectedWith("undo")
    expect(events).to.deep.equal([
      "commit committed",
      "rollback rolled back",
      "close rolled back",
      "run without a statement committed",
      "run committed",
      "failed run rolled back",
    ])
  })

  it("runs once where close() ends a session that ran no statement, or that has an open block", async () => {
    const idle = await fixture.maker.open()
    follow(idle, "idle")
    await idle.close()
    const session = await fixture.maker.open()
    follow(session, "root")
    await session.queryRunner?.startTransaction()
    follow(session, "by hand")
    await session.insert(Note, { text: "lost" })
    await session.close()
    await session.close()
    expect(events[0]).to.equal("idle rolled back")
    expect(events.slice(1)).to.have.members(["root rolled back", "by hand rolled back"]).and.have.length(2)
  })

  it("runs with its block where that is rolled back, and with the transaction where it is kept", async () => {
    const session = await fixture.maker.open()
    const block = session.transaction(async (outer) => {
      follow(outer, "outer")
      await outer.transaction(async (inner) => follow(inner, "inner, kept"))
      await outer.insert(Note, { text: "lost" })
      throw new Error("undo")
    })
    await expect(block).to.be.rejectedWith("undo")
    expect(events).to.deep.equal(["outer rolled back", "inner, kept rolled back"])
    await session.transaction(async (kept) => {
      follow(kept, "kept")
      await kept.insert(Note, { text: "a" })
    })
    expect(events).to.have.length(2)
    await session.commit()
    await session.close()
    expect(events.slice(2)).to.deep.equal(["kept committed"])
  })

  it("runs as rolled back where the commit is refused because a statement had failed", async () => {
    const session = await fixture.maker.open()
    follow(session, "aborted")
    await expect(session.query("NONSENSE")).to.be.rejectedWith("NONSENSE")
    await expect(session.commit()).to.be.rejectedWith("aborted")
    await session.close()
    expect(events).to.deep.equal(["aborted rolled back"])
  })

  it("that throws is reported and stops no other", async () => {
    const reported: unknown[] = []
    const report = (error: unknown) => reported.push(error)
    const context = { asWriter: true, label: () => "spec", report }
    const session = await fixture.maker.openWith(resolveSessionOptions(), context)
    session.afterCompletion(() => {
      throw new Error("hook")
    })
    follow(session, "second")
    await session.insert(Note, { text: "a" })
    await session.commit()
    await session.close()
    expect(events).to.deep.equal(["second committed"])
    expect(reported).to.have.length(1)
  })

  it("runs once where close() comes while a raw ROLLBACK is under way", async () => {
    for (let round = 0; round < 5; round++) {
      const session = await fixture.maker.open()
      await session.insert(Note, { text: "undone" })
      follow(session, "raw")
      // It waits in the queue first: what runs then goes on some promises after its end.
      const read = session.query("SELECT 1")
      const rollback = session.query("ROLLBACK").catch(() => undefined)
      await read
      await session.close()
      await rollback
    }
    expect(events).to.deep.equal(Array.from({ length: 5 }, () => "raw rolled back"))
    expect(await fixture.texts()).to.deep.equal([])
  })
})

describeOnEach("Session.afterCompletion() where COMMIT is not answered", servers, (database) => {
  let app: NetworkApp
  beforeEach(async () => {
    app = await startNetworkApp(database, { maker: { poolSize: 1, acquireTimeoutMs: 1_500 } })
  })
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  it("runs once, as unknown, in kept blocks as well, and neither of the other hooks does", async () => {
    const events: string[] = []
    app.network.on(/^COMMIT/, "cut answer")
    const run = app.maker.run(async (session) => {
      session.afterCommit(() => events.push("afterCommit"))
      session.afterRollback(() => events.push("afterRollback"))
      session.afterCompletion((outcome) => events.push(outcome))
      await session.transaction(async (inner) => {
        inner.afterCompletion((outcome) => events.push(`block ${outcome}`))
        await inner.insert(Note, { text: "kept" })
      })
    })
    await expect(run).to.be.rejectedWith(CommitOutcomeUnknownError)
    expect(events).to.deep.equal(["unknown", "block unknown"])
  })

  it("hears unknown where a statement that commits by itself is not answered, and its error was caught", async () => {
    const events: string[] = []
    app.network.on(/^(COMMIT|TRUNCATE)/, "cut answer")
    const text = database.kind === "mysql" ? "TRUNCATE TABLE counter" : "COMMIT"
    const run = app.maker.run(async (session) => {
      session.afterRollback(() => events.push("afterRollback"))
      session.afterCompletion((outcome) => events.push(outcome))
      await session.insert(Note, { text: "kept" })
      await expect(session.query(text)).to.be.rejectedWith(CommitOutcomeUnknownError)
    })
    await expect(run).to.be.rejectedWith(CommitOutcomeUnknownError)
    expect(events).to.deep.equal(["unknown"])
  })
})
