import { randomUUID } from "node:crypto"
import { rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import { expect } from "chai"
import { DataSource, type DataSourceOptions, type EntityManager } from "typeorm"
import { createDataSource } from "../../src/engine/data-source"
import {
  DatabaseUnavailableError,
  DatabaseUriError,
  SessionMakerClosedError,
  SessionOptionsError,
  SettingsError,
} from "../../src/errors"
import { contextSession } from "../../src/session/context-session"
import type { Session } from "../../src/session/session"
import { SessionMaker } from "../../src/session/session-maker"
import { parseDatabaseUri } from "../../src/settings/database-uri"
import { type CreatedDatabase, describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { httpEntities } from "../support/http-entities"
import { sessionDatabases } from "../support/session-databases"
import { Counter, Note, useSessions } from "../support/session-fixture"

const withSecond = sessionDatabases.filter(({ isFile }) => isFile !== false)
const postgres = sessionDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("SessionMaker", withSecond, (database) => {
  let created: CreatedDatabase
  let maker: SessionMaker
  let initialized: number

  /** Counts how often it is initialised. */
  class CountingDataSource extends DataSource {
    override async initialize(): Promise<this> {
      initialized++
      return super.initialize()
    }
  }

  function options(): DataSourceOptions {
    return { ...parseDatabaseUri(created.uri), entities: httpEntities, synchronize: true } as DataSourceOptions
  }

  beforeEach(async () => {
    created = await database.createDatabase()
    initialized = 0
    maker = new SessionMaker(created.uri, { entities: httpEntities, synchronize: true })
  })

  afterEach(async () => {
    await maker.close({ timeoutMs: 1 })
    await created.drop()
  })

  async function texts(source = created): Promise<unknown[]> {
    const second = await source.open()
    const rows = await second.query("SELECT text FROM note ORDER BY id")
    await second.close()
    return rows.map(({ text }) => text)
  }

  const add = (text: string) => (session: EntityManager) => session.insert(Note, { text })

  it("initialises once for 50 first calls at the same time", async () => {
    let built = 0
    maker = new SessionMaker(async () => {
      built++
      return new CountingDataSource(options())
    })
    await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        if (index % 2 === 0) await maker.run(add(`${index}`))
        else await maker.dataSource()
      }),
    )
    expect([built, initialized]).to.deep.equal([1, 1])
    expect(await texts()).to.have.length(25)
    expect(await maker.dataSource()).to.equal(await maker.dataSource())
  })

  it("does not remember a start that failed", async () => {
    const folder = join(tmpdir(), `sqlite-spec-${randomUUID()}`)
    const down = database.kind === "sqlite" ? `sqlite:///${tmpdir()}` : created.uri.replace(/:\d+\//, ":1/")
    let uri = down
    maker = new SessionMaker(() => uri, { entities: httpEntities, synchronize: true })
    const kept = await maker.open().catch((error: unknown) => error)
    const first = await Promise.allSettled(Array.from({ length: 5 }, () => maker.run(add("never"))))
    for (const result of first) {
      expect(result).to.have.property("reason").that.is.instanceOf(DatabaseUnavailableError)
    }
    await expect(maker.dataSource()).to.be.rejectedWith(DatabaseUnavailableError)
    uri = created.uri
    await maker.run(add("a"))
    expect(await texts()).to.deep.equal(["a"])
    expect(maker.stats()).to.include({ active: 0, waiting: 0, committed: 1 })
    if (typeof kept === "object" && kept !== null && "close" in kept) await (kept as Session).close()
    await rm(folder, { recursive: true, force: true })
  })

  it("takes a new databaseUri after reset()", async () => {
    const other = await database.createDatabase()
    await maker.run(add("old"))
    maker.databaseUri = other.uri
    await maker.run(add("still old"))
    await maker.reset()
    expect(maker.databaseUri).to.equal(other.uri)
    await maker.run(add("new"))
    expect(await texts()).to.deep.equal(["old", "still old"])
    expect(await texts(other)).to.deep.equal(["new"])
    await maker.close()
    await other.drop()
  })

  it("lets sessions in flight finish on the old database after reset(), then destroys it", async () => {
    const other = await database.createDatabase()
    const session = await maker.open()
    await session.insert(Note, { text: "a" })
    const old = await maker.dataSource()
    maker.databaseUri = other.uri
    let isReset = false
    const reset = maker.reset().then(() => {
      isReset = true
    })
    await maker.run(add("new"))
    expect(maker.stats()).to.include({ open: 1, active: 1 })
    await session.insert(Note, { text: "b" })
    await session.commit()
    await session.insert(Note, { text: "c" })
    await session.commit()
    expect([isReset, old.isInitialized]).to.deep.equal([false, true])
    await session.close()
    await reset
    expect(old.isInitialized).to.equal(false)
    expect(await texts()).to.deep.equal(["a", "b", "c"])
    expect(await texts(other)).to.deep.equal(["new"])
    await maker.close()
    await other.drop()
  })

  it("accepts DataSourceOptions, and lays its own over them", async () => {
    maker = new SessionMaker({ ...options(), entities: [] } as DataSourceOptions, {
      entities: httpEntities,
      poolSize: 3,
    })
    await maker.run(add("a"))
    expect((await maker.dataSource()).options).to.include({ poolSize: 3 })
    expect(await texts()).to.deep.equal(["a"])
  })

  it("initialises a DataSource that it was given, which stays the caller's to destroy", async () => {
    const given = new CountingDataSource(options())
    maker = new SessionMaker(given)
    await maker.prepare()
    expect(initialized).to.equal(0)
    await maker.run(add("a"))
    expect(await maker.dataSource()).to.equal(given)
    await maker.reset()
    await maker.run(add("b"))
    await maker.close()
    expect([initialized, given.isInitialized]).to.deep.equal([1, true])
    await given.destroy()
    expect(await texts()).to.deep.equal(["a", "b"])
  })

  it("initialises and destroys a DataSource that a function made for it", async () => {
    const given = new CountingDataSource(options())
    maker = new SessionMaker(() => given)
    await maker.run(add("a"))
    await maker.close()
    expect([initialized, given.isInitialized]).to.deep.equal([1, false])
  })

  it("leaves open a DataSource that was initialised when it was given", async () => {
    const given = await new CountingDataSource(options()).initialize()
    maker = new SessionMaker(given)
    await maker.run(add("a"))
    await maker.reset()
    await maker.run(add("b"))
    await maker.close()
    expect([initialized, given.isInitialized]).to.deep.equal([1, true])
    expect(await given.manager.count(Note)).to.equal(2)
    await given.destroy()
  })

  it("calls a function for the database at each first use, and not before", async () => {
    let calls = 0
    maker = new SessionMaker(
      () => {
        calls++
        return created.uri
      },
      { entities: httpEntities, synchronize: true },
    )
    expect(calls).to.equal(0)
    await Promise.all([maker.run(add("a")), maker.run(add("b"))])
    expect(calls).to.equal(1)
    await maker.reset()
    await maker.run(add("c"))
    expect(calls).to.equal(2)
  })

  it("reads DATABASE_URI at the first use where it is given nothing", async () => {
    maker = new SessionMaker(undefined, { entities: httpEntities, synchronize: true })
    delete process.env.DATABASE_URI
    await expect(maker.run(add("a"))).to.be.rejectedWith(SettingsError, "DATABASE_URI")
    process.env.DATABASE_URI = created.uri
    await maker.run(add("b"))
    expect(await texts()).to.deep.equal(["b"])
  })

  it("createDataSource() gives a new one each time, which is the caller's", async () => {
    const [one, two] = [await maker.createDataSource(), await maker.createDataSource()]
    expect(new Set([one, two, await maker.dataSource()]).size).to.equal(3)
    await one.manager.insert(Note, { text: "a" })
    await maker.close()
    expect([one.isInitialized, two.isInitialized]).to.deep.equal([true, true])
    await Promise.all([one.destroy(), two.destroy()])
  })

  it("close() refuses new sessions, waits for the open ones, and may be called again", async () => {
    const session = await maker.open()
    await session.insert(Note, { text: "a" })
    const dataSource = await maker.dataSource()
    const closed = Promise.all([maker.close(), maker.close()])
    await expect(maker.open()).to.be.rejectedWith(SessionMakerClosedError)
    await expect(maker.run(add("b"))).to.be.rejectedWith(SessionMakerClosedError)
    await expect(maker.dataSource()).to.be.rejectedWith(SessionMakerClosedError)
    await session.insert(Note, { text: "c" })
    await session.commit()
    await session.close()
    await closed
    await maker.close()
    await maker.reset()
    expect(dataSource.isInitialized).to.equal(false)
    expect(maker.stats()).to.deep.include({ open: 0, active: 0, committed: 1, pool: { size: 0, max: 0 } })
    expect(await texts()).to.deep.equal(["a", "c"])
  })

  it("close() rolls back after timeoutMs what is still open", async () => {
    const session = await maker.open()
    await session.insert(Note, { text: "a" })
    await maker.close({ timeoutMs: 10 })
    expect(session.closed).to.equal(true)
    expect(maker.stats()).to.include({ open: 0, rolledBack: 1 })
    expect(await texts()).to.deep.equal([])
  })

  it("close() while the database is starting leaves nothing open", async () => {
    const run = maker.run(add("a"))
    await maker.close()
    await run
    expect(maker.stats()).to.include({ open: 0, active: 0 })
    expect(await texts()).to.deep.equal(["a"])
  })

  it("stats() are exact through all phases", async () => {
    const states: unknown[] = []
    const note = () => {
      const { longestActiveMs, pool, ...numbers } = maker.stats()
      states.push(Object.values(numbers))
      return longestActiveMs
    }
    await maker.dataSource()
    expect(note()).to.equal(0)
    const session = await maker.open()
    expect(note()).to.equal(0)
    await session.insert(Note, { text: "a" })
    expect(note()).to.be.greaterThan(0)
    await session.commit()
    note()
    await session.count(Note)
    await session.rollback()
    note()
    await expect(session.query("NONSENSE")).to.be.rejectedWith("")
    await expect(session.commit()).to.be.rejectedWith("aborted")
    note()
    await session.close()
    expect(note()).to.equal(0)
    expect(states, "open, active, idle, waiting, committed, rolledBack, failed").to.deep.equal([
      [0, 0, 0, 0, 0, 0, 0],
      [1, 0, 1, 0, 0, 0, 0],
      [1, 1, 0, 0, 0, 0, 0],
      [1, 0, 1, 0, 1, 0, 0],
      [1, 0, 1, 0, 1, 1, 0],
      [1, 0, 1, 0, 1, 1, 1],
      [0, 0, 0, 0, 1, 1, 1],
    ])
  })

  it("stats() can be asked for at any moment of close()", async () => {
    await maker.run(add("a"))
    const closed = maker.close()
    let isClosed = false
    void closed.then(() => {
      isClosed = true
    })
    while (!isClosed) {
      expect(maker.stats().open).to.equal(0)
      await new Promise(setImmediate)
    }
  })

  it("refuses what is no database, and options out of range, at once", async () => {
    expect(() => new SessionMaker(created.uri, { retries: -1 })).to.throw(SessionOptionsError, '"retries"')
    await expect(maker.run(add("a"), { timeoutMs: 0 })).to.be.rejectedWith(SessionOptionsError, '"timeoutMs"')
    const isolation = "READ SIDEWAYS" as "SERIALIZABLE"
    await expect(maker.open({ isolation })).to.be.rejectedWith(SessionOptionsError, "SERIALIZABLE")
    for (const wrong of ["nonsense", "oracle://x/y"]) {
      await expect(new SessionMaker(wrong).dataSource()).to.be.rejectedWith(DatabaseUriError)
    }
    await expect(new SessionMaker(42 as unknown as string).dataSource()).to.be.rejectedWith(SessionOptionsError)
  })

  it("shows no password, and neither do its sessions, its DataSource and its errors", async () => {
    // The one server here that lets everybody in, whatever the password.
    const secret = `secret-${randomUUID()}`
    const uri =
      database.kind !== "postgres" ? created.uri : created.uri.replace(/\/\/([^:@]+)(:[^@]*)?@/, `//$1:${secret}@`)
    maker = new SessionMaker(uri, { entities: httpEntities, synchronize: true })
    await maker.run(async (session) => {
      await session.insert(Note, { text: "a" })
      const error = await session.query("NONSENSE").catch((failure: unknown) => failure)
      for (const shown of [maker, session, session.queryRunner, await maker.dataSource(), error, maker.stats()]) {
        expect(inspect(shown, { depth: 8 })).to.not.include(secret)
      }
      expect(JSON.stringify(error)).to.not.include(secret)
      await session.rollback()
    })
  })

  it("contextSession() commits, rolls back, and leaves the DataSource open", async () => {
    const dataSource = new CountingDataSource(options())
    await Promise.all(["a", "b"].map((text) => contextSession(dataSource, add(text))))
    expect(initialized).to.equal(1)
    const failed = contextSession(dataSource, async (session) => {
      await session.insert(Note, { text: "c" })
      throw new Error("no")
    })
    await expect(failed).to.be.rejectedWith("no")
    expect(await contextSession(dataSource, (session) => session.count(Note), { readOnly: true })).to.equal(2)
    expect(dataSource.isInitialized).to.equal(true)
    expect(await texts()).to.have.members(["a", "b"])
    await dataSource.destroy()
  })

  it("createDataSource() is initialised, from a URI and its own options", async () => {
    const dataSource = await createDataSource(created.uri, { entities: httpEntities, synchronize: true })
    expect(await contextSession(dataSource, (session) => session.count(Note))).to.equal(0)
    await dataSource.destroy()
  })
})

describeOnEach("maker.run() with retries", postgres, (database) => {
  const fixture = useSessions(database, { isolation: "SERIALIZABLE" })

  /** Both have read before either writes: one of them cannot be serialised. */
  async function conflict(retries: number): Promise<{ attempts: number[]; results: PromiseSettledResult<void>[] }> {
    await fixture.maker.run((session) =>
      session.insert(Counter, [
        { id: 1, value: 0 },
        { id: 2, value: 0 },
      ]),
    )
    const attempts = [0, 0]
    const haveRead = [new Deferred(), new Deferred()]
    const work = (index: number) => async (session: Session) => {
      attempts[index] = (attempts[index] ?? 0) + 1
      const sum = (await session.sum(Counter, "value")) ?? 0
      haveRead[index]?.resolve()
      await haveRead[1 - index]?.promise
      await session.update(Counter, { id: index + 1 }, { value: sum + 1 })
    }
    const results = await Promise.allSettled([0, 1].map((index) => fixture.maker.run(work(index), { retries })))
    return { attempts, results }
  }

  it("runs the loser of a serialization failure again, on a new session", async () => {
    const { attempts, results } = await conflict(3)
    expect(results.map(({ status }) => status)).to.deep.equal(["fulfilled", "fulfilled"])
    expect(attempts.toSorted()).to.deep.equal([1, 2])
    const rows = await fixture.rows("SELECT value FROM counter ORDER BY value")
    expect(rows).to.deep.equal([{ value: 1 }, { value: 2 }])
    expect(fixture.maker.stats()).to.include({ open: 0, committed: 3 })
  })

  it("fails with the database's error where none is left", async () => {
    const { attempts, results } = await conflict(0)
    expect(attempts).to.deep.equal([1, 1])
    const failed = results.filter((result) => result.status === "rejected")
    expect(failed).to.have.length(1)
    expect(failed[0]).to.have.nested.property("reason.driverError.code", "40001")
  })

  it("runs again also where fn caught the failure, and the commit was refused for it", async () => {
    await fixture.maker.run((session) => session.insert(Counter, { id: 1, value: 0 }))
    let attempts = 0
    await fixture.maker.run(
      async (session) => {
        attempts++
        await session.findBy(Counter, { id: 1 })
        // Not by an inner run(): what that commits would forbid to run this again.
        if (attempts === 1) await fixture.rows("UPDATE counter SET value = value + 1 WHERE id = 1")
        await session.increment(Counter, { id: 1 }, "value", 1).catch(() => undefined)
      },
      { retries: 1 },
    )
    expect(attempts).to.equal(2)
    expect(await fixture.rows("SELECT value FROM counter")).to.deep.equal([{ value: 2 }])
  })

  it("does not run again what failed for another reason", async () => {
    let attempts = 0
    const run = fixture.maker.run(
      async (session) => {
        attempts++
        await session.query("NONSENSE")
      },
      { retries: 5 },
    )
    await expect(run).to.be.rejectedWith("NONSENSE")
    expect(attempts).to.equal(1)
  })
})

describeOnEach("200 concurrent read-then-write transactions on one row", sessionDatabases, (database) => {
  const fixture = useSessions(database, { acquireTimeoutMs: 30_000 })

  it("lose no update, fail nowhere and leave nothing behind", async () => {
    await fixture.maker.run((session) => session.insert(Counter, { id: 1, value: 0 }))
    await Promise.all(
      Array.from({ length: 200 }, () =>
        fixture.maker.run(async (session) => {
          const lock = database.kind === "sqlite" ? {} : { lock: { mode: "pessimistic_write" as const } }
          const counter = await session.findOneOrFail(Counter, { where: { id: 1 }, ...lock })
          counter.value++
          await session.save(counter)
        }),
      ),
    )
    expect(await fixture.rows("SELECT value FROM counter")).to.deep.equal([{ value: 200 }])
    const { pool, ...numbers } = fixture.maker.stats()
    expect(numbers).to.deep.equal({
      open: 0,
      active: 0,
      idle: 0,
      waiting: 0,
      committed: 201,
      rolledBack: 0,
      failed: 0,
      longestActiveMs: 0,
    })
    expect(pool.size).to.be.at.most(pool.max)
  }).timeout(60_000)
})
