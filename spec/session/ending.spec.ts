import { expect } from "chai"
import { QueryFailedError } from "typeorm"
import { failureKind } from "../../src/engine/failure-kind"
import { CommitOutcomeUnknownError, TransactionAbortedError } from "../../src/errors"
import type { Session } from "../../src/session/session"
import { describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { Note, Remark, useSessions } from "../support/session-fixture"

const postgres = sessionDatabases.filter(({ kind }) => kind === "postgres")
const withDeferred = sessionDatabases.filter(({ kind }) => kind !== "mysql")

describeOnEach("Session.commit() and Session.rollback()", sessionDatabases, (database) => {
  // The next session gets the very connection that the one before gave back.
  const fixture = useSessions(database, { poolSize: 1 })

  it("give the connection back at once and leave the session usable", async () => {
    const session = await fixture.maker.open()
    await session.insert(Note, { text: "a" })
    await session.commit()
    expect(session.inTransaction).to.equal(false)
    expect(fixture.maker.stats()).to.include({ open: 1, active: 0, idle: 1, committed: 1 })
    expect(await fixture.texts()).to.deep.equal(["a"])
    await fixture.maker.run((other) => other.insert(Note, { text: "b" }))
    await session.insert(Note, { text: "c" })
    await session.rollback()
    await fixture.maker.run((other) => other.insert(Note, { text: "d" }))
    await session.insert(Note, { text: "e" })
    await session.commit()
    await session.close()
    expect(await fixture.texts()).to.deep.equal(["a", "b", "d", "e"])
    expect(fixture.maker.stats()).to.include({ committed: 4, rolledBack: 1, failed: 0 })
    const verbs = ["BEGIN", "INSERT", "COMMIT", "BEGIN", "INSERT", "COMMIT", "BEGIN", "INSERT", "ROLLBACK"]
    expect(fixture.log.verbs().slice(0, 9)).to.deep.equal(verbs)
  })

  it("do nothing where no transaction is open", async () => {
    await fixture.maker.run(async (session) => {
      await session.rollback()
      await session.commit()
      await session.insert(Note, { text: "a" })
      await session.commit()
      await session.commit()
      await session.rollback()
    })
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
  })

  it("wait for the statements that were issued before them", async () => {
    const session = await fixture.maker.open()
    const inserts = ["a", "b"].map((text) => session.query(`INSERT INTO note (text) VALUES ('${text}')`))
    await Promise.all([...inserts, session.commit()])
    await session.close()
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "INSERT", "COMMIT"])
    expect(await fixture.texts()).to.deep.equal(["a", "b"])
  })

  it("send one COMMIT when two are issued in parallel", async () => {
    const session = await fixture.maker.open()
    await session.insert(Note, { text: "a" })
    await Promise.all([session.commit(), session.commit(), session.rollback()])
    await session.close()
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
    expect(await fixture.texts()).to.deep.equal(["a"])
  })
})

describeOnEach("a transaction in which a statement failed", sessionDatabases, (database) => {
  const fixture = useSessions(database, { poolSize: 1 })

  async function expectAborted(work: Parameters<typeof fixture.maker.run>[0]): Promise<void> {
    await expect(fixture.maker.run(work)).to.be.rejectedWith(TransactionAbortedError)
    expect(fixture.log.verbs()).to.not.include("COMMIT")
    // The only connection of the pool: a foreign transaction on it would show here, and commit its note.
    await fixture.maker.run((next) => next.insert(Note, { text: "next" }))
    expect(await fixture.texts()).to.deep.equal(["next"])
    expect(fixture.maker.stats()).to.include({ open: 0, committed: 1, rolledBack: 0, failed: 1 })
  }

  it("is no commit where the failure was caught", () =>
    expectAborted(async (session) => {
      await session.insert(Note, { text: "lost" })
      await expect(session.insert(Note, { text: "lost" })).to.be.rejectedWith("")
    }))

  it("is no commit where its first statement has wrong syntax", () =>
    expectAborted(async (session) => {
      await expect(session.query("NONSENSE")).to.be.rejectedWith("NONSENSE")
    }))

  it("is no commit where the first statement has a parameter that cannot be bound", () =>
    expectAborted(async (session) => {
      const unbindable = {
        toPostgres() {
          throw new Error("This value cannot be bound.")
        },
        toSqlString() {
          throw new Error("This value cannot be bound.")
        },
      }
      const text =
        database.kind === "postgres" ? "INSERT INTO note (text) VALUES ($1)" : "INSERT INTO note (text) VALUES (?)"
      await expect(session.query(text, [unbindable])).to.be.rejectedWith("")
    }))

  it("is no commit where a later statement has a parameter that cannot be bound", () =>
    expectAborted(async (session) => {
      await session.insert(Note, { text: "lost" })
      const text = database.kind === "postgres" ? "SELECT $1::text" : "SELECT ?"
      const circle: { toPostgres?: () => unknown; toSqlString?: () => unknown; self?: unknown } = {}
      circle.self = circle
      circle.toPostgres = circle.toSqlString = () => {
        throw new Error("no")
      }
      await expect(session.query(text, [circle])).to.be.rejectedWith("")
    }))

  it("names the first failure as the cause of the later ones", async () => {
    await using session = await fixture.maker.open()
    const first = await session.query("NONSENSE").catch((error: unknown) => error)
    for (const later of [session.query("SELECT 1"), session.commit()]) {
      await expect(later).to.be.rejectedWith(TransactionAbortedError).and.eventually.include({ cause: first })
    }
  })

  it("can be rolled back, and the session goes on", async () => {
    await fixture.maker.run(async (session) => {
      await expect(session.query("NONSENSE")).to.be.rejectedWith("NONSENSE")
      await session.rollback()
      await session.insert(Note, { text: "a" })
    })
    expect(await fixture.texts()).to.deep.equal(["a"])
    expect(fixture.maker.stats()).to.include({ committed: 1, rolledBack: 1, failed: 0 })
  })

  it("can be saved by a ROLLBACK TO of a savepoint that was set by hand", async () => {
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      await session.query("SAVEPOINT mine")
      await expect(session.query("NONSENSE")).to.be.rejectedWith("NONSENSE")
      await session.query("ROLLBACK TO SAVEPOINT mine")
      await session.insert(Note, { text: "b" })
    })
    expect(await fixture.texts()).to.deep.equal(["a", "b"])
  })
})

describeOnEach("a COMMIT that the database refuses", withDeferred, (database) => {
  const fixture = useSessions(database, { poolSize: 1 })

  it("rejects with the database's error, rolls back, and the connection is clean", async () => {
    const events: string[] = []
    const session = await fixture.maker.open()
    session.afterCommit(() => events.push("committed"))
    session.afterRollback(() => events.push("rolled back"))
    await session.insert(Note, { text: "lost" })
    await session.insert(Remark, { noteId: 4711 })
    await expect(session.commit())
      .to.be.rejected.and.eventually.have.property("driverError")
      .with.property("code")
      .that.is.oneOf(["23503", "SQLITE_CONSTRAINT_FOREIGNKEY"])
    expect(events).to.deep.equal(["rolled back"])
    expect(fixture.maker.stats()).to.include({ active: 0, committed: 0, rolledBack: 0, failed: 1 })
    await fixture.maker.run((other) => other.insert(Note, { text: "other" }))
    await session.insert(Note, { text: "again" })
    await session.commit()
    await session.close()
    expect(await fixture.texts()).to.deep.equal(["other", "again"])
  })
})

describeOnEach("a transaction whose connection is lost", postgres, (database) => {
  const fixture = useSessions(database, { poolSize: 1 })
  const kill =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"

  function listen(session: Session, events: unknown[]): void {
    session.afterCommit(() => events.push("committed"))
    session.afterRollback(() => events.push("rolled back"))
    session.afterCompletion((outcome) => events.push(`completion: ${outcome}`))
  }

  const isUnavailable = ({ driverError }: QueryFailedError) => failureKind(driverError) === "unavailable"

  async function expectUsable(): Promise<void> {
    await fixture.maker.run((next) => next.insert(Note, { text: "next" }))
    expect(await fixture.texts()).to.deep.equal(["next"])
    expect(fixture.maker.stats()).to.deep.include({ open: 0, committed: 1, rolledBack: 0, failed: 1 })
    expect(fixture.maker.stats().pool).to.deep.equal({ size: 1, max: 1 })
  }

  it("fails its next statement, then refuses, and the next session has a new connection", async () => {
    const run = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "lost" })
      await fixture.rows(kill)
      await expect(session.count(Note)).to.be.rejectedWith(QueryFailedError)
      await expect(session.count(Note)).to.be.rejectedWith(TransactionAbortedError)
    })
    await expect(run).to.be.rejectedWith(TransactionAbortedError, "connection was lost")
    await expectUsable()
  })

  it("fails its commit where it is lost before that", async () => {
    const events: unknown[] = []
    const run = fixture.maker.run(async (session) => {
      listen(session, events)
      await session.insert(Note, { text: "lost" })
      await fixture.rows(kill)
    })
    // Whether the client hears of it before or after it sends COMMIT, the server has said that it ended the connection.
    await expect(run).to.be.rejectedWith(QueryFailedError).and.eventually.satisfy(isUnavailable)
    expect(events).to.deep.equal(["rolled back", "completion: rolled back"])
    await expectUsable()
  })

  it("fails its commit, and sends none, where the loss was noticed before that", async () => {
    const events: unknown[] = []
    const run = fixture.maker.run(async (session) => {
      listen(session, events)
      await session.insert(Note, { text: "lost" })
      const client = (await session.queryRunner?.connect()) as NodeJS.EventEmitter
      const ended = new Promise((resolve) => client.once("end", resolve))
      fixture.wire.cut()
      await ended
    })
    await expect(run)
      .to.be.rejectedWith(QueryFailedError, "before COMMIT was sent")
      .and.eventually.satisfy(isUnavailable)
    expect(events).to.deep.equal(["rolled back", "completion: rolled back"])
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT"])
    await expectUsable()
  })

  it("can be rolled back, and the session goes on with a new connection", async () => {
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "lost" })
      fixture.wire.cut()
      await expect(session.count(Note)).to.be.rejectedWith("terminated")
      await session.rollback()
      await session.insert(Note, { text: "kept" })
    })
    expect(await fixture.texts()).to.deep.equal(["kept"])
    expect(fixture.maker.stats()).to.include({ committed: 1, rolledBack: 0, failed: 1 })
  })

  it("says that the outcome is unknown where the answer to COMMIT is lost", async () => {
    const events: unknown[] = []
    const run = fixture.maker.run(async (session) => {
      listen(session, events)
      await session.insert(Note, { text: "next" })
      fixture.wire.cutOn(/^COMMIT/, "after")
    })
    await expect(run).to.be.rejectedWith(CommitOutcomeUnknownError, "not known").and.eventually.have.property("cause")
    expect(events).to.deep.equal(["completion: unknown"])
    expect(fixture.maker.stats()).to.include({ open: 0, committed: 0, rolledBack: 0, failed: 1 })
    expect(await fixture.texts()).to.deep.equal(["next"])
  })

  it("says so, too, where COMMIT did not reach the server, and the work is not there", async () => {
    const events: unknown[] = []
    const run = fixture.maker.run(async (session) => {
      listen(session, events)
      await session.insert(Note, { text: "lost" })
      fixture.wire.cutOn(/^COMMIT/, "before")
    })
    await expect(run).to.be.rejectedWith(CommitOutcomeUnknownError, "not known")
    expect(events).to.deep.equal(["completion: unknown"])
    await expectUsable()
  })

  it("keeps the first error where ROLLBACK fails, too, and ends the connection", async () => {
    const failure = new Error("the action's own")
    fixture.wire.cutOn(/^ROLLBACK/, "before")
    const run = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "lost" })
      throw failure
    })
    await expect(run).to.be.rejectedWith(failure)
    await fixture.maker.run((next) => next.insert(Note, { text: "next" }))
    expect(await fixture.texts()).to.deep.equal(["next"])
    expect(fixture.maker.stats().pool).to.deep.equal({ size: 1, max: 1 })
  })

  it("leaves nothing open in the server", async () => {
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      await session.rollback()
    })
    const rows = await fixture.rows(
      "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    expect(rows).to.deep.equal([{ state: "idle" }])
  })
})
