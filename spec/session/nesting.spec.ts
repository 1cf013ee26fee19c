import { expect } from "chai"
import { QueryFailedError } from "typeorm"
import { TransactionAbortedError } from "../../src/errors"
import type { Session } from "../../src/session/session"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { sessionDatabases } from "../support/session-databases"
import { Note, useSessions } from "../support/session-fixture"

const add = (session: Session, text: string) => session.insert(Note, { text })
const failure = new Error("undo this block")

describeOnEach("Session.transaction()", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("is a savepoint of the session's transaction, also inside another one", async () => {
    await fixture.maker.run(async (session) => {
      await add(session, "a")
      await session.transaction(async (outer) => {
        await add(outer, "b")
        await outer.transaction((inner) => add(inner, "c"))
      })
    })
    expect(fixture.log.verbs()).to.deep.equal([
      "BEGIN",
      "INSERT",
      "SAVEPOINT",
      "INSERT",
      "SAVEPOINT",
      "INSERT",
      "RELEASE",
      "RELEASE",
      "COMMIT",
    ])
    expect(await fixture.texts()).to.deep.equal(["a", "b", "c"])
  })

  it("nests through the outer variable and through that of the session, too", async () => {
    await fixture.maker.run((session) =>
      session.transaction(async (outer) => {
        await add(session, "a")
        await outer.transaction(async () => {
          await add(outer, "b")
          await session.transaction(async () => {
            await add(session, "c")
          })
        })
      }),
    )
    expect(fixture.log.verbs()).to.deep.equal([
      "BEGIN",
      "SAVEPOINT",
      "INSERT",
      "SAVEPOINT",
      "INSERT",
      "SAVEPOINT",
      "INSERT",
      "RELEASE",
      "RELEASE",
      "RELEASE",
      "COMMIT",
    ])
    expect(await fixture.texts()).to.deep.equal(["a", "b", "c"])
  })

  it("undoes only itself when its failure is caught", async () => {
    await fixture.maker.run(async (session) => {
      await add(session, "a")
      const block = session.transaction(async (inner) => {
        await add(inner, "b")
        await add(inner, "a")
      })
      await expect(block).to.be.rejectedWith(QueryFailedError)
      await add(session, "c")
    })
    expect(await fixture.texts()).to.deep.equal(["a", "c"])
  })

  it("leaves the session usable when the first statement of all fails in it", async () => {
    for (const readOnly of [false, true]) {
      await fixture.maker.run(
        async (session) => {
          await expect(session.transaction((inner) => inner.query("NONSENSE"))).to.be.rejectedWith("NONSENSE")
          expect(await session.count(Note)).to.equal(0)
        },
        { readOnly },
      )
    }
    expect(fixture.maker.stats()).to.include({ committed: 2, failed: 0 })
  })

  it("rejects where a failed statement in it was caught without a savepoint of its own", async () => {
    await fixture.maker.run(async (session) => {
      const block = session.transaction(async (inner) => {
        await add(inner, "a")
        await expect(inner.query("NONSENSE")).to.be.rejectedWith("NONSENSE")
      })
      await expect(block).to.be.rejectedWith(TransactionAbortedError)
      await add(session, "b")
    })
    expect(await fixture.texts()).to.deep.equal(["b"])
  })

  it("runs parallel blocks one after another; one that throws takes no other with it", async () => {
    await fixture.maker.run(async (session) => {
      const blocks = ["a", "b", "c", "d"].map((text) =>
        session.transaction(async (inner) => {
          await add(inner, `${text}1`)
          await inner.count(Note)
          await add(session, `${text}2`)
          if (text === "b") throw failure
        }),
      )
      const results = await Promise.allSettled(blocks)
      expect(results.map(({ status }) => status)).to.deep.equal(["fulfilled", "rejected", "fulfilled", "fulfilled"])
    })
    expect(await fixture.texts()).to.deep.equal(["a1", "a2", "c1", "c2", "d1", "d2"])
  })

  it("loses no statement of the session that was issued in parallel with a block that fails", async () => {
    await fixture.maker.run(async (session) => {
      const entered = new Deferred()
      const block = session.transaction(async (inner) => {
        await add(inner, "lost")
        entered.resolve()
        await inner.count(Note)
        throw failure
      })
      // From outside the block, while it is open.
      const beside = entered.promise.then(() => add(session, "kept"))
      await expect(block).to.be.rejectedWith(failure)
      await beside
    })
    expect(await fixture.texts()).to.deep.equal(["kept"])
  })

  it("loses none that was issued in the same turn either, before or after the block", async () => {
    await fixture.maker.run(async (session) => {
      const before = add(session, "before")
      const block = session.transaction(async (inner) => {
        await add(inner, "lost")
        throw failure
      })
      const after = add(session, "after")
      await expect(block).to.be.rejectedWith(failure)
      await Promise.all([before, after])
    })
    expect(await fixture.texts()).to.have.members(["before", "after"])
  })

  it("lets a statement that was issued in it too late run in the outer one", async () => {
    await fixture.maker.run(async (session) => {
      let late: Promise<unknown> | undefined
      await session.transaction(async (inner) => {
        const running = inner.query("INSERT INTO note (text) VALUES ('a')")
        // In the queue behind the end of the block, which itself waits for the statement above.
        late = Promise.resolve().then(async () => {
          for (let turn = 0; turn < 5; turn++) await undefined
          await inner.query("INSERT INTO note (text) VALUES ('late')")
        })
        void running
      })
      await late
    })
    expect(await fixture.texts()).to.deep.equal(["a", "late"])
  })

  it("refuses a statement of a block that was rolled back meanwhile", async () => {
    await fixture.maker.run(async (session) => {
      let kept: Session | undefined
      const block = session.transaction(async (inner) => {
        kept = inner
        await add(inner, "lost")
        throw failure
      })
      await expect(block).to.be.rejectedWith(failure)
      await expect((kept as Session).query("SELECT 1")).to.be.rejectedWith(TransactionAbortedError)
      await add(session, "kept")
    })
    expect(await fixture.texts()).to.deep.equal(["kept"])
  })

  it("ends when the outer block fails while an inner one is still at work", async () => {
    await fixture.maker.run(async (session) => {
      let inner: Promise<unknown> | undefined
      const outer = session.transaction(async (block) => {
        inner = block.transaction(async (innermost) => {
          void innermost.query("INSERT INTO note (text) VALUES ('a')").catch(() => undefined)
        })
        inner.catch(() => undefined)
        for (let turn = 0; turn < 10; turn++) await undefined
        throw failure
      })
      await expect(outer).to.be.rejectedWith(failure)
      await Promise.allSettled([inner])
      await add(session, "kept")
    })
    expect(await fixture.texts()).to.deep.equal(["kept"])
  })

  it("does not wait for itself where a block of another session is in between", async () => {
    const other = fixture.makeMaker()
    if (database.kind === "sqlite") await (await other.dataSource()).synchronize()
    await fixture.maker.run((session) =>
      session.transaction(() =>
        other.run((second) => second.transaction(() => session.query("SELECT 1")), { readOnly: true }),
      ),
    )
    await other.close()
    expect(fixture.maker.stats().committed).to.equal(1)
  })

  it("hands through what fn returns", async () => {
    expect(await fixture.maker.run((session) => session.transaction(async () => 42))).to.equal(42)
  })

  it("refuses commit() and rollback() in it, through either variable, and goes on", async () => {
    await fixture.maker.run((session) =>
      session.transaction(async (inner) => {
        await add(inner, "a")
        for (const variable of [session, inner]) {
          await expect(variable.commit()).to.be.rejected.and.eventually.include({ code: "ERR_SESSION_STATE" })
          await expect(variable.rollback()).to.be.rejected.and.eventually.include({ code: "ERR_SESSION_STATE" })
        }
      }),
    )
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  it("chooses the isolation of the transaction where it comes first, and only of that one", async () => {
    const work = async (session: Session) => {
      await session.transaction("SERIALIZABLE", (inner) => inner.count(Note))
      await session.commit()
      await session.count(Note)
      const late = session.transaction("SERIALIZABLE", (inner) => inner.count(Note))
      await expect(late).to.be.rejected.and.eventually.include({ code: "ERR_SESSION_OPTIONS" })
    }
    // The second begin is there to be seen: a plain read would need none.
    await fixture.maker.run(work, { deferBegin: false })
    if (!fixture.wire) return
    const begins = fixture.log.statements().filter((statement) => statement.startsWith("BEGIN"))
    expect(begins).to.deep.equal(["BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN"])
  })
})

describeOnEach("TypeORM's own transactions in a session", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("join it: save() and remove() of several rows", async () => {
    await fixture.maker.run(async (session) => {
      const notes = await session.save(["a", "b", "c"].map((text) => session.create(Note, { text })))
      await session.remove(notes.slice(0, 2))
    })
    const verbs = fixture.log.verbs()
    expect([verbs[0], verbs.at(-1)]).to.deep.equal(["BEGIN", "COMMIT"])
    expect(verbs.filter((verb) => /BEGIN|COMMIT|SAVEPOINT|RELEASE/.test(verb))).to.have.length(2)
    expect(await fixture.texts()).to.deep.equal(["c"])
  })

  it("join it: query builders and repositories with useTransaction", async () => {
    await fixture.maker.run(async (session) => {
      await session.createQueryBuilder().insert().into(Note).values({ text: "a" }).useTransaction(true).execute()
      await session.getRepository(Note).update({ text: "a" }, { text: "b" })
    })
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "UPDATE", "COMMIT"])
    expect(await fixture.texts()).to.deep.equal(["b"])
  })

  it("are savepoints where queryRunner.startTransaction() is called by hand", async () => {
    await fixture.maker.run(async (session) => {
      const { queryRunner } = session
      await queryRunner?.startTransaction()
      await add(session, "a")
      await queryRunner?.commitTransaction()
      await queryRunner?.startTransaction()
      await add(session, "b")
      await queryRunner?.rollbackTransaction()
      await queryRunner?.release()
      await add(session, "c")
    })
    expect(fixture.log.verbs()).to.deep.equal([
      "BEGIN",
      "SAVEPOINT",
      "INSERT",
      "RELEASE",
      "SAVEPOINT",
      "INSERT",
      "ROLLBACK TO",
      "INSERT",
      "COMMIT",
    ])
    expect(await fixture.texts()).to.deep.equal(["a", "c"])
  })

  it("lose no outer work where commitTransaction() by hand fails and rollbackTransaction() follows", async () => {
    await fixture.maker.run(async (session) => {
      await add(session, "kept")
      const { queryRunner } = session
      await queryRunner?.startTransaction()
      await expect(session.query("NONSENSE")).to.be.rejectedWith("NONSENSE")
      await expect(queryRunner?.commitTransaction()).to.be.rejectedWith(TransactionAbortedError)
      await queryRunner?.rollbackTransaction()
    })
    expect(await fixture.texts()).to.deep.equal(["kept"])
  })

  it("by hand are over with the block around them, also where their own end is asked for meanwhile", async () => {
    const startedAt = performance.now()
    await fixture.maker.run(async (session) => {
      const ends: Promise<void>[] = []
      const undone = session.transaction(async (inner) => {
        const { queryRunner } = inner
        await queryRunner?.startTransaction()
        const statements = Array.from({ length: 20 }, (_, index) => add(inner, `${index}`))
        const end = () => queryRunner?.rollbackTransaction()
        ends.push(Promise.all(statements).then(end, end))
        throw failure
      })
      await expect(undone).to.be.rejectedWith(failure)
      void Promise.allSettled(ends)
    })
    expect(performance.now() - startedAt).to.be.below(5_000)
    expect(await fixture.texts()).to.deep.equal([])
  })

  it("make run() fail, and not wait for ever, where one begun by hand is never ended", async () => {
    const run = fixture.maker.run(async (session) => {
      await session.queryRunner?.startTransaction()
      await add(session, "lost")
    })
    await expect(run).to.be.rejected.and.eventually.include({ code: "ERR_SESSION_STATE" })
    expect(await fixture.texts()).to.deep.equal([])
  })
})
