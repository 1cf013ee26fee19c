import { expect } from "chai"
import type { Repository, SelectQueryBuilder } from "typeorm"
import { AcquireTimeoutError, SessionClosedError, TransactionAbortedError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

const postgres = sessionDatabases.filter(({ kind }) => kind === "postgres")
const servers = sessionDatabases.filter(({ kind }) => kind !== "sqlite")

describeOnEach("Session.close()", sessionDatabases, (database) => {
  const fixture = useSessions(database, { poolSize: 1 })

  it("rolls back what is open and returns the connection", async () => {
    const session = await fixture.maker.open()
    await session.insert(Note, { text: "a" })
    await session.close()
    expect(session.closed).to.equal(true)
    expect(session.inTransaction).to.equal(false)
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "ROLLBACK"])
    expect(fixture.maker.stats()).to.include({ open: 0, active: 0, rolledBack: 1 })
    await fixture.maker.run((next) => next.insert(Note, { text: "b" }))
    expect(await fixture.texts()).to.deep.equal(["b"])
  })

  it("does nothing the second time, in parallel or later", async () => {
    const session = await fixture.maker.open()
    await session.insert(Note, { text: "a" })
    await Promise.all([session.close(), session.close()])
    await session.close()
    await session.rollback()
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "ROLLBACK"])
    expect(fixture.maker.stats()).to.include({ open: 0, rolledBack: 1 })
  })

  it("makes every later statement reject, those of kept repositories and query builders too", async () => {
    const session = await fixture.maker.open()
    const repository: Repository<Note> = session.getRepository(Note)
    const builder: SelectQueryBuilder<Note> = session.createQueryBuilder(Note, "note")
    const { queryRunner } = session
    await session.count(Note)
    await session.close()
    fixture.log.clear()
    const late: (() => Promise<unknown> | undefined)[] = [
      () => session.query("SELECT 1"),
      () => session.count(Note),
      () => session.save(Object.assign(new Note(), { text: "late" })),
      () => session.transaction((inner) => inner.count(Note)),
      () => session.commit(),
      () => repository.find(),
      () => repository.insert({ text: "late" }),
      () => builder.getMany(),
      () => builder.stream(),
      () => queryRunner?.query("SELECT 1"),
      () => queryRunner?.connect(),
      () => queryRunner?.startTransaction(),
      async () => session.afterCommit(() => undefined),
    ]
    for (const statement of late) await expect(statement(), String(statement)).to.be.rejectedWith(SessionClosedError)
    expect(fixture.log.statements()).to.deep.equal([])
    expect(fixture.maker.stats()).to.include({ open: 0, active: 0 })
    expect(session.inTransaction).to.equal(false)
  })

  it("is what `await using` does, also while an error unwinds", async () => {
    await (async () => {
      await using session = await fixture.maker.open()
      await session.insert(Note, { text: "a" })
      await session.commit()
      await session.insert(Note, { text: "b" })
    })()
    const failure = new Error("unwinds")
    const unwinding = (async () => {
      await using session = await fixture.maker.open()
      await session.insert(Note, { text: "c" })
      throw failure
    })()
    await expect(unwinding).to.be.rejectedWith(failure)
    expect(fixture.log.verbs().filter((verb) => verb === "ROLLBACK")).to.have.length(2)
    expect(await fixture.texts()).to.deep.equal(["a"])
    expect(fixture.maker.stats()).to.include({ open: 0, committed: 1, rolledBack: 2 })
  })

  it("waits for the statement that runs, and refuses those that wait", async () => {
    const session = await fixture.maker.open()
    const statements = ["a", "b", "c"].map((text) => session.query(`INSERT INTO note (text) VALUES ('${text}')`))
    const closed = session.close()
    const results = await Promise.allSettled(statements)
    await closed
    expect(results.slice(1).map((result) => result.status === "rejected" && result.reason.code)).to.deep.equal([
      "ERR_SESSION_CLOSED",
      "ERR_SESSION_CLOSED",
    ])
    expect(await fixture.texts()).to.deep.equal([])
    await fixture.maker.run((next) => next.insert(Note, { text: "next" }))
    expect(await fixture.texts()).to.deep.equal(["next"])
  })

  it("inside a transaction() block ends the block as well", async () => {
    const session = await fixture.maker.open()
    const hooks: string[] = []
    const block = session.transaction(async (inner) => {
      inner.afterRollback(() => hooks.push("inner"))
      await inner.insert(Note, { text: "a" })
      await session.close()
      await inner.insert(Note, { text: "b" })
    })
    await expect(block).to.be.rejectedWith(SessionClosedError)
    expect(hooks).to.deep.equal(["inner"])
    expect(fixture.maker.stats()).to.include({ open: 0, active: 0 })
    expect(await fixture.texts()).to.deep.equal([])
  })

  it("does not wait for a transaction() block that never ends", async () => {
    const session = await fixture.maker.open()
    const entered = new Deferred()
    const leave = new Deferred()
    const block = session.transaction(async (inner) => {
      await inner.insert(Note, { text: "a" })
      entered.resolve()
      await leave.promise
    })
    block.catch(() => undefined)
    await entered.promise
    const outer = session.query("SELECT 1")
    outer.catch(() => undefined)
    await session.close()
    await expect(outer).to.be.rejectedWith(SessionClosedError)
    expect(await fixture.texts()).to.deep.equal([])
    leave.resolve()
    await expect(block).to.be.rejectedWith(SessionClosedError)
  })

  it("in run() undoes its work, and run() resolves", async () => {
    const result = await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      await session.close()
      return "done"
    })
    expect(result).to.equal("done")
    expect(await fixture.texts()).to.deep.equal([])
  })
})

describeOnEach("waiting for a connection", sessionDatabases, (database) => {
  const fixture = useSessions(database, { poolSize: 1, acquireTimeoutMs: 40 })

  it("ends with an error after acquireTimeoutMs that names who holds it, and no slot is lost", async () => {
    await fixture.maker.run(async (holder) => {
      await holder.insert(Note, { text: "held" })
      const waiting = Array.from({ length: 5 }, () => fixture.maker.run((session) => session.count(Note)))
      const results = await Promise.allSettled(waiting)
      for (const result of results) {
        expect(result).to.have.property("status", "rejected")
        expect(result).to.have.property("reason").that.is.instanceOf(AcquireTimeoutError)
        expect(result)
          .to.have.nested.property("reason.message")
          .that.matches(/maker\.run\(\) \(for \d+ ms\)/)
      }
      expect(fixture.maker.stats()).to.include({ open: 1, active: 1, waiting: 0 })
    })
    await Promise.all([1, 2, 3].map((id) => fixture.maker.run((next) => next.insert(Note, { text: `${id}` }))))
    expect(await fixture.texts()).to.have.length(4)
    expect(fixture.maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
  })

  it("may be tried again in the same session", async () => {
    const session = await fixture.maker.open()
    await fixture.maker.run(async (holder) => {
      await holder.count(Note)
      await expect(session.count(Note)).to.be.rejectedWith(AcquireTimeoutError)
    })
    await session.insert(Note, { text: "a" })
    await session.commit()
    await session.close()
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  it("ends when the session is closed, and the slot goes to the next one", async () => {
    const holder = await fixture.maker.open()
    await holder.insert(Note, { text: "held" })
    const quitter = await fixture.maker.open({ acquireTimeoutMs: 10_000 })
    const waiting = quitter.count(Note)
    waiting.catch(() => undefined)
    expect(fixture.maker.stats()).to.include({ open: 2, active: 2, waiting: 1 })
    await quitter.close()
    await expect(waiting).to.be.rejectedWith(SessionClosedError)
    expect(fixture.maker.stats()).to.include({ open: 1, active: 1, waiting: 0 })
    await holder.close()
    await fixture.maker.run((next) => next.insert(Note, { text: "next" }))
    expect(await fixture.texts()).to.deep.equal(["next"])
  })

  it("serves those who wait in the order they came", async () => {
    const order: number[] = []
    const holder = await fixture.maker.open()
    await holder.count(Note)
    const waiting = [1, 2, 3, 4].map((id) =>
      fixture.maker.run(
        async (session) => {
          await session.count(Note)
          order.push(id)
        },
        { acquireTimeoutMs: 5_000 },
      ),
    )
    await new Promise(setImmediate)
    await holder.close()
    await Promise.all(waiting)
    expect(order).to.deep.equal([1, 2, 3, 4])
  })
})

describeOnEach("a connection that the server is slow to give", postgres, (database) => {
  const fixture = useSessions(database, { poolSize: 1, acquireTimeoutMs: 50 })

  it("is handed back when it comes too late, and its slot is not lost", async () => {
    const maker = fixture.makeMaker()
    const warm = await maker.dataSource()
    // The pool is empty once its connections are gone, and the next one has to be opened.
    fixture.wire.cut()
    await new Promise(setImmediate)
    fixture.wire.setDelay(60)
    const slow = maker.run((session) => session.insert(Note, { text: "late" }))
    await expect(slow).to.be.rejectedWith(AcquireTimeoutError)
    const closing = await maker.open({ acquireTimeoutMs: 5_000 })
    const waiting = closing.count(Note)
    waiting.catch(() => undefined)
    await closing.close()
    await expect(waiting).to.be.rejectedWith(SessionClosedError)
    fixture.wire.setDelay(0)
    await maker.run((session) => session.insert(Note, { text: "a" }), { acquireTimeoutMs: 5_000 })
    expect(maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
    expect(warm.isInitialized).to.equal(true)
    await maker.close()
    expect(await fixture.texts()).to.deep.equal(["a"])
  })
})

describeOnEach("a running statement", servers, (database) => {
  const fixture = useSessions(database, { poolSize: 1 })

  it("is cancelled in the database when its maker's close() runs out of time, and nobody else is hit", async () => {
    const maker = fixture.makeMaker()
    const sleep = database.kind === "postgres" ? "SELECT pg_sleep(30)" : "SELECT sleep(30)"
    const slow = maker.run((session) => session.query(sleep))
    slow.catch(() => undefined)
    await maker.dataSource()
    const startedAt = performance.now()
    await maker.close({ timeoutMs: 30 })
    expect(performance.now() - startedAt).to.be.lessThan(5_000)
    await expect(slow).to.be.rejectedWith("")
  })
})

describeOnEach("a statement that can neither end nor be cancelled", postgres, (database) => {
  const fixture = useSessions(database)

  it("does not keep its maker's close() waiting: the connection is ended", async () => {
    const maker = fixture.makeMaker({ connectTimeoutMS: 100 })
    await maker.run((session) => session.count(Note))
    fixture.wire.setDelay(5_000)
    const slow = maker.run((session) => session.count(Note))
    slow.catch(() => undefined)
    const startedAt = performance.now()
    await maker.close({ timeoutMs: 20 })
    expect(performance.now() - startedAt).to.be.lessThan(2_500)
    await expect(slow).to.be.rejectedWith("")
    fixture.wire.cut()
  })
})

describeOnEach("maker.close() that runs out of time", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("lets no run() resolve whose work it rolled back", async () => {
    const maker = database.isFile === false ? fixture.maker : fixture.makeMaker()
    const written = new Deferred()
    const leave = new Deferred()
    const run = maker.run(async (session) => {
      await session.insert(Note, { text: "lost" })
      written.resolve()
      await leave.promise
    })
    run.catch(() => undefined)
    await written.promise
    await maker.close({ timeoutMs: 5 })
    leave.resolve()
    await expect(run).to.be.rejectedWith(TransactionAbortedError)
    if (database.isFile !== false) expect(await fixture.texts()).to.deep.equal([])
  })
})
