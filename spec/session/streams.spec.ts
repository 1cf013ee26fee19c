import { once } from "node:events"
import type { Readable } from "node:stream"
import { expect } from "chai"
import type { Session } from "../../src/session/session"
import { servers } from "../reliability/support/databases"
import { eventually } from "../reliability/support/eventually"
import { within } from "../reliability/support/within"
import { describeOnEach } from "../support/databases"
import { Note, useSessions } from "../support/session-fixture"

/** Nothing may wait for ever. */
const soon = async <T>(coming: PromiseLike<T>): Promise<T> => (await within(3_000, "an answer", coming)).value

const NOTES = 40
/** Thousands of rows: none of the ways to leave it comes to its end by chance. */
const MANY = "SELECT a.text AS text, repeat('x', 1000) AS filler FROM note a CROSS JOIN note b CROSS JOIN note c"

async function streamOf(session: Session, sql = MANY): Promise<Readable> {
  const { queryRunner } = session
  if (!queryRunner) throw new TypeError("A session has a query runner.")
  return (await queryRunner.stream(sql)) as Readable
}

/** Resolves when all events of it have been emitted. */
async function destroyed(stream: Readable, reason?: Error): Promise<void> {
  // `once()` would reject with the stream's error.
  const closed = new Promise((resolve) => stream.once("close", resolve))
  stream.destroy(reason)
  await closed
}

/** The ways to leave a stream before its end. */
const departures: Record<string, (session: Session) => Promise<void>> = {
  "break in for await": async (session) => {
    for await (const _ of await streamOf(session)) break
  },
  "a throw in for await": async (session) => {
    const reading = async () => {
      for await (const _ of await streamOf(session)) throw new Error("enough")
    }
    await expect(reading()).to.be.rejectedWith("enough")
  },
  "destroy() before the first row": async (session) => {
    const stream = await streamOf(session)
    await destroyed(stream)
  },
  "destroy() after the first row": async (session) => {
    const stream = await streamOf(session)
    await once(stream, "readable")
    stream.read()
    await destroyed(stream)
  },
  "destroy(error)": async (session) => {
    const stream = await streamOf(session)
    const errors: Error[] = []
    stream.on("error", (error) => errors.push(error))
    await once(stream, "readable")
    await destroyed(stream, new Error("enough"))
    expect(errors.map(({ message }) => message)).to.deep.equal(["enough"])
  },
  "destroy() without waiting for its end": async (session) => {
    ;(await streamOf(session)).destroy()
  },
  "the statement behind it, after destroy()": async (session) => {
    const stream = await streamOf(session)
    const count = session.count(Note)
    stream.destroy()
    await count
  },
}

describeOnEach("a result stream that is left before its end", servers, (database) => {
  const fixture = useSessions(database, { poolSize: 1, acquireTimeoutMs: 2_000 })

  beforeEach(async () => {
    const texts = Array.from({ length: NOTES }, (_, index) => ({ text: `note ${index}` }))
    await fixture.maker.run((session) => session.insert(Note, texts))
    fixture.log.clear()
  })

  const OPEN = {
    postgres:
      "SELECT 1 AS open FROM pg_stat_activity WHERE datname = current_database() AND state LIKE '%in transaction%'",
    mysql:
      "SELECT 1 AS open FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id WHERE p.db = database()",
    sqlite: "",
  }[database.kind]

  /** The pool has one connection: the next session is given it. */
  async function expectCleanConnection(): Promise<void> {
    await eventually("the server has no open transaction", async () => (await fixture.rows(OPEN)).length === 0)
    await soon(fixture.maker.run((session) => session.insert(Note, { text: "next" })))
    expect(await fixture.rows("SELECT text FROM note WHERE text = 'next'")).to.have.length(1)
    expect(fixture.maker.stats()).to.include({ open: 0, active: 0, waiting: 0, failed: 0 })
    expect(fixture.maker.stats().pool).to.deep.equal({ size: 1, max: 1 })
  }

  const written = async () =>
    (await fixture.rows("SELECT text FROM note WHERE text LIKE 'written%' ORDER BY id")).map(({ text }) => text)

  for (const [how, leave] of Object.entries(departures)) {
    it(`leaves the transaction as it was: ${how}`, async () => {
      await soon(
        fixture.maker.run(async (session) => {
          await session.insert(Note, { text: "written before" })
          await leave(session)
          expect(session.inTransaction).to.equal(true)
          expect(await session.count(Note)).to.equal(NOTES + 1)
          await session.insert(Note, { text: "written after" })
        }),
      )
      expect(fixture.log.verbs().filter((verb) => /BEGIN|COMMIT|ROLLBACK/.test(verb))).to.deep.equal([
        "BEGIN",
        "COMMIT",
      ])
      expect(await written()).to.deep.equal(["written before", "written after"])
      await expectCleanConnection()
    })
  }

  it("leaves it as it was where the stream is the first statement", async () => {
    await soon(
      fixture.maker.run(async (session) => {
        await departures["break in for await"]?.(session)
        await session.insert(Note, { text: "written after" })
      }),
    )
    expect(await written()).to.deep.equal(["written after"])
    await expectCleanConnection()
  })

  it("leaves it as it was time after time", async () => {
    await soon(
      fixture.maker.run(async (session) => {
        for (let time = 0; time < 5; time++) {
          await session.insert(Note, { text: `written ${time}` })
          await departures["break in for await"]?.(session)
        }
      }),
    )
    expect(await written()).to.have.length(5)
    await expectCleanConnection()
  })

  it("undoes nothing of the block that it is in", async () => {
    await soon(
      fixture.maker.run((session) =>
        session.transaction(async (inner) => {
          await inner.insert(Note, { text: "written in the block" })
          await departures["break in for await"]?.(inner)
          await inner.insert(Note, { text: "written in the block, too" })
        }),
      ),
    )
    expect(await written()).to.deep.equal(["written in the block", "written in the block, too"])
    await expectCleanConnection()
  })

  it("lets rollback() undo what was written, and close() end the rest", async () => {
    const session = await fixture.maker.open()
    await session.insert(Note, { text: "written and undone" })
    await departures["break in for await"]?.(session)
    await soon(session.rollback())
    await session.insert(Note, { text: "written and closed" })
    await departures["destroy() without waiting for its end"]?.(session)
    await soon(session.close())
    expect(await written()).to.deep.equal([])
    await expectCleanConnection()
  })

  for (const reason of [undefined, new Error("enough")]) {
    it(`gives the connection back where the work fails in the same turn as destroy(${reason ? "error" : ""})`, async () => {
      const run = fixture.maker.run(async (session) => {
        await session.insert(Note, { text: "written and lost" })
        const stream = await streamOf(session)
        stream.on("error", () => undefined)
        await once(stream, "readable")
        stream.destroy(reason)
        throw new Error("undo")
      })
      await expect(soon(run)).to.be.rejectedWith("undo")
      expect(await written()).to.deep.equal([])
      await expectCleanConnection()
    })
  }

  it("is not taken for one that failed in the database, which aborts", async () => {
    const failing =
      database.kind === "postgres"
        ? "SELECT 1 / (id - id) AS n FROM note"
        : "SELECT (SELECT 1 UNION SELECT 2) AS n FROM note"
    const run = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "written and lost" })
      const reading = async () => {
        for await (const _ of await streamOf(session, failing)) expect.fail("a row")
      }
      await expect(reading()).to.be.rejected
    })
    await expect(soon(run)).to.be.rejected.and.eventually.include({ code: "ERR_SESSION_TRANSACTION_ABORTED" })
    expect(await written()).to.deep.equal([])
  })
})
