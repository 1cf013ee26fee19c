import { expect } from "chai"
import { Container } from "typedi"
import { AcquireTimeoutError, SessionStateError, TransactionAbortedError } from "../../src/errors"
import { currentSession } from "../../src/request/current-session"
import type { Session } from "../../src/session/session"
import { SessionMaker } from "../../src/session/session-maker"
import { within } from "../reliability/support/within"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

/** Nothing may wait for ever. */
const soon = async <T>(coming: PromiseLike<T>): Promise<T> => (await within(3_000, "an answer", coming)).value
const failure = new Error("undo this block")
const fail = async (): Promise<never> => {
  throw failure
}

describeOnEach("code of a transaction() block that was rolled back", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  /** `db.transaction(() => Promise.all([service(), fails()]))`: the service goes on after its block was undone. */
  async function goOnAfterUndone(session: Session, service: () => unknown): Promise<unknown> {
    const undone = new Deferred()
    let late: Promise<unknown> = Promise.resolve()
    const block = session.transaction(() => {
      late = undone.promise.then(service)
      late.catch(() => undefined)
      return Promise.all([late, fail()])
    })
    await expect(block).to.be.rejectedWith(failure)
    undone.resolve()
    return late
  }

  const uses: Record<string, (session: Session) => unknown> = {
    "insert()": (session) => session.insert(Note, { text: "lost" }),
    "save() of several rows": (session) => session.save(Note, [{ text: "lost" }, { text: "lost too" }]),
    "query()": (session) => session.query("INSERT INTO note (text) VALUES ('lost')"),
    "a repository": (session) => session.getRepository(Note).save({ text: "lost" }),
    "a query builder": (session) => session.createQueryBuilder().insert().into(Note).values({ text: "lost" }).execute(),
    "a block in it": (session) => session.transaction((inner) => inner.insert(Note, { text: "lost" })),
    "queryRunner.query()": (session) => session.queryRunner?.query("INSERT INTO note (text) VALUES ('lost')"),
    "queryRunner.startTransaction()": (session) => session.queryRunner?.startTransaction(),
    "queryRunner.connect()": (session) => session.queryRunner?.connect(),
    "queryRunner.stream()": (session) => session.queryRunner?.stream("SELECT 1"),
    "afterCommit()": (session) => session.afterCommit(() => undefined),
    "a read": (session) => session.find(Note),
  }
  for (const [name, use] of Object.entries(uses)) {
    it(`is refused through the outer variable: ${name}`, async () => {
      await fixture.maker.run(async (session) => {
        await session.insert(Note, { text: "before" })
        await expect(goOnAfterUndone(session, () => use(session))).to.be.rejectedWith(
          TransactionAbortedError,
          "has been rolled back",
        )
        await session.insert(Note, { text: "after" })
      })
      expect(await fixture.texts()).to.deep.equal(["before", "after"])
    })
  }

  for (const end of ["commit", "rollback"] as const) {
    it(`can not ${end}() what is outside of it`, async () => {
      await fixture.maker.run(async (session) => {
        await session.insert(Note, { text: "before" })
        await expect(goOnAfterUndone(session, () => session[end]())).to.be.rejectedWith(
          SessionStateError,
          "rolled back",
        )
        expect(session.inTransaction).to.equal(true)
      })
      expect(await fixture.texts()).to.deep.equal(["before"])
    })
  }

  it("is refused through a repository that was made before the block, and through currentSession()", async () => {
    Container.set(SessionMaker, fixture.maker)
    await fixture.maker.run(async (session) => {
      const before = session.getRepository(Note)
      await expect(goOnAfterUndone(session, () => before.insert({ text: "lost" }))).to.be.rejectedWith(
        TransactionAbortedError,
      )
      await expect(goOnAfterUndone(session, () => currentSession().insert(Note, { text: "lost" }))).to.be.rejectedWith(
        TransactionAbortedError,
      )
      await session.insert(Note, { text: "after" })
    })
    expect(await fixture.texts()).to.deep.equal(["after"])
  })

  it("is refused where it comes while the block is being undone, and where it waited in the queue", async () => {
    const late: Promise<unknown>[] = []
    await fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "before" })
      const service = async (text: string, turns: number) => {
        await session.insert(Note, { text: `${text} 1` })
        for (let turn = 0; turn < turns; turn++) await undefined
        await session.insert(Note, { text: `${text} 2` })
      }
      const block = session.transaction(() => {
        for (let turns = 0; turns < 20; turns++) {
          const one = service(`lost ${turns}`, turns)
          one.catch(() => undefined)
          late.push(one)
        }
        return Promise.all([...late, fail()])
      })
      await expect(block).to.be.rejectedWith(failure)
      const results = await Promise.allSettled(late)
      expect(results.map(({ status }) => status)).to.not.include("fulfilled")
    })
    expect(await fixture.texts()).to.deep.equal(["before"])
  })

  it("is refused where its own block was kept and the one around it was undone", async () => {
    await fixture.maker.run(async (session) => {
      const undone = new Deferred()
      let late: Promise<unknown> = Promise.resolve()
      const outer = session.transaction(async () => {
        await session.transaction(async () => {
          late = undone.promise.then(() => session.insert(Note, { text: "lost" }))
          late.catch(() => undefined)
        })
        throw failure
      })
      await expect(outer).to.be.rejectedWith(failure)
      undone.resolve()
      await expect(late).to.be.rejectedWith(TransactionAbortedError)
      await session.insert(Note, { text: "kept" })
    })
    expect(await fixture.texts()).to.deep.equal(["kept"])
  })

  it("is refused after the session's next transaction has begun as well", async () => {
    const session = await fixture.maker.open()
    const begun = new Deferred()
    let late: Promise<unknown> = Promise.resolve()
    const block = session.transaction(() => {
      late = begun.promise.then(() => session.insert(Note, { text: "lost" }))
      late.catch(() => undefined)
      return fail()
    })
    await expect(block).to.be.rejectedWith(failure)
    await session.commit()
    await session.insert(Note, { text: "next" })
    begun.resolve()
    await expect(late).to.be.rejectedWith(TransactionAbortedError)
    await session.commit()
    await session.close()
    expect(await fixture.texts()).to.deep.equal(["next"])
  })

  it("goes on in the outer transaction where its block was kept", async () => {
    await fixture.maker.run(async (session) => {
      const ended = new Deferred()
      let late: Promise<unknown> = Promise.resolve()
      await session.transaction(async () => {
        late = ended.promise.then(() => session.insert(Note, { text: "late" }))
      })
      ended.resolve()
      await late
    })
    expect(await fixture.texts()).to.deep.equal(["late"])
  })

  it("can do what it likes with a session of its own", async () => {
    let late: unknown
    await fixture.maker.run(async (session) => {
      late = await goOnAfterUndone(session, () =>
        fixture.maker.run((own) => own.insert(Note, { text: "of its own" })).then(() => "kept"),
      )
    })
    expect(late).to.equal("kept")
    expect(await fixture.texts()).to.deep.equal(["of its own"])
  })
})

describeOnEach("a statement issued beside a block and awaited inside it", sessionDatabases, (database) => {
  const fixture = useSessions(database, { acquireTimeoutMs: 150 })

  /** As a DataLoader does: the batch was scheduled by code outside of the block. */
  function loaderOf(session: Session, statement: (session: Session) => Promise<unknown>) {
    const asked = new Deferred()
    const loaded = asked.promise.then(() => statement(session))
    loaded.catch(() => undefined)
    return () => {
      asked.resolve()
      return loaded
    }
  }

  const BOTH = /a statement \(SELECT\) got no turn .* within 150 ms.* a transaction\(\) block was open/

  it("is refused after acquireTimeoutMs, with the names of both, and the session goes on", async () => {
    const session = await fixture.maker.open()
    const load = loaderOf(session, () => session.find(Note))
    const startedAt = performance.now()
    const block = session.transaction(async (inner) => {
      await inner.insert(Note, { text: "lost" })
      await load()
    })
    await expect(soon(block)).to.be.rejectedWith(AcquireTimeoutError, BOTH)
    expect(performance.now() - startedAt).to.be.within(140, 1_500)
    await session.insert(Note, { text: "kept" })
    await session.commit()
    await session.close()
    expect(await fixture.texts()).to.deep.equal(["kept"])
  })

  it("is refused once; a block that catches it is kept", async () => {
    await fixture.maker.run(async (session) => {
      const load = loaderOf(session, () => session.find(Note))
      await session.transaction(async (inner) => {
        await inner.insert(Note, { text: "kept" })
        await expect(soon(load())).to.be.rejectedWith(AcquireTimeoutError, BOTH)
        expect(await inner.count(Note)).to.equal(1)
      })
    })
    expect(await fixture.texts()).to.deep.equal(["kept"])
  })

  it("names a block where that waits for another one", async () => {
    await fixture.maker.run(async (session) => {
      const load = loaderOf(session, () => session.transaction(async (other) => other.find(Note)))
      const block = session.transaction(() => load())
      await expect(soon(block)).to.be.rejectedWith(
        AcquireTimeoutError,
        /: a transaction\(\) block got no turn .* a transaction\(\) block was open/,
      )
      expect(await session.count(Note)).to.equal(0)
    })
  })

  it("names a transaction that was begun by hand", async () => {
    await fixture.maker.run(async (session) => {
      const load = loaderOf(session, () => session.transaction(async (other) => other.find(Note)))
      await session.transaction(async (inner) => {
        await inner.queryRunner?.startTransaction()
        await expect(soon(load())).to.be.rejectedWith(AcquireTimeoutError, "queryRunner.startTransaction()")
        await inner.queryRunner?.commitTransaction()
      })
    })
  })

  it("shows no value and no text of a statement", async () => {
    await fixture.maker.run(async (session) => {
      const load = loaderOf(session, () => session.query("INSERT INTO note (text) VALUES ('secret')"))
      const error: unknown = await soon(session.transaction(() => load())).catch((reason: unknown) => reason)
      expect(error).to.be.instanceOf(AcquireTimeoutError)
      expect(String(error)).to.include("a statement (INSERT)").and.not.include("secret")
    })
    expect(await fixture.texts()).to.deep.equal([])
  })

  if (database.kind !== "sqlite") {
    it("is refused behind a result stream that nobody reads, with its name", async () => {
      await fixture.maker.run(async (session) => {
        await session.insert(Note, { text: "kept" })
        const stream = await session.queryRunner?.stream("SELECT * FROM note")
        await expect(soon(session.find(Note))).to.be.rejectedWith(AcquireTimeoutError, "a result stream")
        stream?.destroy()
        expect(await session.count(Note)).to.equal(1)
      })
      expect(await fixture.texts()).to.deep.equal(["kept"])
    })
  }
})

describeOnEach("queryRunner.startTransaction() by hand in a block", sessionDatabases, (database) => {
  const fixture = useSessions(database, { acquireTimeoutMs: 500 })

  const programs: Record<string, (session: Session, inner: Session) => Promise<unknown>> = {
    "was committed by hand": async (_, inner) => {
      await inner.queryRunner?.startTransaction()
      await inner.insert(Note, { text: "lost" })
      await inner.queryRunner?.commitTransaction()
    },
    "was committed by hand through the outer variable": async (session) => {
      await session.queryRunner?.startTransaction()
      await session.insert(Note, { text: "lost" })
      await session.queryRunner?.commitTransaction()
    },
    "was rolled back by hand": async (session) => {
      await session.queryRunner?.startTransaction()
      await session.insert(Note, { text: "lost" })
      await session.queryRunner?.rollbackTransaction()
    },
    "was left open": async (_, inner) => {
      await inner.queryRunner?.startTransaction()
      await inner.insert(Note, { text: "lost" })
    },
    "was left open through the outer variable": async (session) => {
      await session.queryRunner?.startTransaction()
      await session.insert(Note, { text: "lost" })
    },
    "was left open, with another one in it": async (_, inner) => {
      await inner.queryRunner?.startTransaction()
      await inner.queryRunner?.startTransaction()
      await inner.insert(Note, { text: "lost" })
    },
  }
  for (const [how, program] of Object.entries(programs)) {
    it(`leaves the session usable where it ${how} and the block is rolled back`, async () => {
      const session = await fixture.maker.open()
      await session.insert(Note, { text: "before" })
      const block = session.transaction(async (inner) => {
        await program(session, inner)
        throw failure
      })
      await expect(soon(block)).to.be.rejectedWith(failure)
      await session.insert(Note, { text: "after" })
      await session.transaction((inner) => inner.insert(Note, { text: "in a block" }))
      await session.queryRunner?.startTransaction()
      await session.insert(Note, { text: "by hand" })
      await session.queryRunner?.commitTransaction()
      await session.commit()
      expect(await fixture.texts()).to.deep.equal(["before", "after", "in a block", "by hand"])
      await session.insert(Note, { text: "undone" })
      await session.rollback()
      await session.close()
      expect(await fixture.texts()).to.have.length(4)
    })
  }

  it("goes on with rollback() right after the block was rolled back", async () => {
    const session = await fixture.maker.open()
    await session.insert(Note, { text: "before" })
    const block = session.transaction(async () => {
      await programs["was committed by hand through the outer variable"]?.(session, session)
      throw failure
    })
    await expect(block).to.be.rejectedWith(failure)
    await session.rollback()
    expect(session.inTransaction).to.equal(false)
    await session.close()
    expect(await fixture.texts()).to.deep.equal([])
  })
})
