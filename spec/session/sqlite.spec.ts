import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readlinkSync } from "node:fs"
import { expect } from "chai"
import { AcquireTimeoutError } from "../../src/errors"
import { runManaged } from "../../src/session/managed"
import { resolveSessionOptions } from "../../src/session/options"
import type { Session } from "../../src/session/session"
import { SessionMaker } from "../../src/session/session-maker"
import { describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { httpEntities } from "../support/http-entities"
import { sessionDatabases } from "../support/session-databases"
import { Counter, Note, useSessions } from "../support/session-fixture"

const files = sessionDatabases.filter(({ isFile }) => isFile === true)
const memory = sessionDatabases.filter(({ isFile }) => isFile === false)

const writeByHand = "INSERT INTO note (text) VALUES ('by hand')"

describeOnEach("sessions on a SQLite file", files, (database) => {
  const fixture = useSessions(database)

  it("have a private connection each: a reader sees nothing of an open writer, and is not held up", async () => {
    await using writer = await fixture.maker.open()
    await writer.insert(Note, { text: "a" })
    const readers = await Promise.all(Array.from({ length: 5 }, () => fixture.openReader()))
    expect(await Promise.all(readers.map((reader) => reader.count(Note)))).to.deep.equal([0, 0, 0, 0, 0])
    await writer.commit()
    // Their snapshot is older than the commit.
    expect(await Promise.all(readers.map((reader) => reader.count(Note)))).to.deep.equal([0, 0, 0, 0, 0])
    await Promise.all(readers.map((reader) => reader.close()))
    expect(fixture.maker.stats()).to.include({ open: 1, active: 0 })
  })

  it("are in WAL mode", async () => {
    expect(await fixture.rows("PRAGMA journal_mode")).to.deep.equal([{ journal_mode: "wal" }])
  })

  it("begin as a writer in run() and open(), as a reader where readOnly or in a GET request", async () => {
    await fixture.maker.run((session) => session.count(Note))
    await fixture.maker.run((session) => session.count(Note), { readOnly: true })
    const reader = await fixture.openReader()
    await reader.count(Note)
    await reader.close()
    const begins = fixture.log.statements().filter((statement) => statement.startsWith("BEGIN"))
    expect(begins).to.deep.equal(["BEGIN IMMEDIATE", "BEGIN", "BEGIN"])
  })

  it("write one at a time; the others wait without blocking the event loop", async () => {
    const order: string[] = []
    const first = await fixture.maker.open()
    await first.insert(Note, { text: "first" })
    const second = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "second" })
      order.push("second wrote")
    })
    await new Promise(setImmediate)
    expect(fixture.maker.stats().waiting).to.equal(1)
    expect(await (await fixture.openReader()).count(Note).finally(() => order.push("reader read"))).to.equal(0)
    await first.commit()
    order.push("first committed")
    await second
    await first.close()
    expect(order).to.deep.equal(["reader read", "first committed", "second wrote"])
    expect(await fixture.texts()).to.deep.equal(["first", "second"])
    await fixture.maker.close({ timeoutMs: 1 })
  })

  it("wait for a lock of another process without blocking the event loop", async () => {
    const other = await lockInAnotherProcess(fixture.database.uri)
    let hasWritten = false
    const write = fixture.maker
      .run((session) => session.insert(Note, { text: "mine" }))
      .then(() => {
        hasWritten = true
      })
    let longestMs = 0
    for (let turns = 0, last = performance.now(); turns < 40; turns++) {
      await new Promise((resolve) => setTimeout(resolve, 5))
      const now = performance.now()
      longestMs = Math.max(longestMs, now - last)
      last = now
    }
    expect(longestMs, "the event loop stood still").to.be.lessThan(150)
    expect(hasWritten).to.equal(false)
    const reader = await fixture.openReader()
    expect(await reader.count(Note)).to.equal(0)
    await reader.close()
    await other.commit()
    await write
    expect(await fixture.texts()).to.deep.equal(["other process", "mine"])
  })

  it("stop waiting for another process after acquireTimeoutMs, and when they are closed", async () => {
    const other = await fixture.database.open()
    await other.query("BEGIN IMMEDIATE")
    const write = (session: Session) => session.insert(Note, { text: "never" })
    const timedOut = fixture.maker.run(write, { acquireTimeoutMs: 30 })
    await expect(timedOut).to.be.rejected.and.eventually.have.nested.property("driverError.code", "SQLITE_BUSY")
    const session = await fixture.maker.open()
    const waiting = write(session)
    waiting.catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, 20))
    const startedAt = performance.now()
    await session.close()
    expect(performance.now() - startedAt).to.be.lessThan(1_000)
    await expect(waiting).to.be.rejected.and.eventually.have.property("code", "ERR_SESSION_CLOSED")
    await other.query("ROLLBACK")
    await fixture.maker.run((next) => next.insert(Note, { text: "next" }))
    expect(await fixture.texts()).to.deep.equal(["next"])
  })

  it("that write first take the lock then, also as a reader", async () => {
    await using writer = await fixture.maker.open()
    await writer.insert(Note, { text: "a" })
    const reader = await fixture.openReader()
    const write = reader.insert(Note, { text: "b" }).then(() => reader.commit())
    while (fixture.maker.stats().waiting === 0) await new Promise(setImmediate)
    await writer.commit()
    await write
    await reader.close()
    expect(await fixture.texts()).to.deep.equal(["a", "b"])
  })

  it("that wait for the write lock in vain say so, as what it is", async () => {
    await using writer = await fixture.maker.open()
    await writer.insert(Note, { text: "a" })
    const reader = await fixture.openReader({ acquireTimeoutMs: 20 })
    await reader.count(Note)
    // Not TypeORM's QueryFailedError around it, which would take over its code.
    await expect(reader.insert(Note, { text: "b" })).to.be.rejectedWith(AcquireTimeoutError, "write lock")
    await reader.close()
    expect(fixture.maker.stats()).to.include({ open: 1, active: 1, waiting: 0 })
  })

  it("that read, and write when their snapshot is stale, fail with SQLITE_BUSY_SNAPSHOT", async () => {
    const reader = await fixture.openReader()
    await reader.count(Note)
    await fixture.maker.run((session) => session.insert(Note, { text: "a" }))
    await expect(reader.insert(Note, { text: "b" })).to.be.rejected.and.eventually.have.nested.property(
      "driverError.code",
      "SQLITE_BUSY_SNAPSHOT",
    )
    await reader.close()
    await fixture.maker.run((session) => session.insert(Note, { text: "c" }))
    expect(await fixture.texts()).to.deep.equal(["a", "c"])
  })

  it("that failed so are run again, as often as `retries` says", async () => {
    let attempts = 0
    const work = async (session: Session) => {
      attempts++
      const count = await session.count(Note)
      if (attempts <= 2) await fixture.maker.run((other) => other.insert(Note, { text: `other ${attempts}` }))
      await session.insert(Note, { text: `after ${count}` })
    }
    await runManaged(() => fixture.openReader(), resolveSessionOptions({ retries: 2 }), work)
    expect(attempts).to.equal(3)
    expect(await fixture.texts()).to.deep.equal(["other 1", "other 2", "after 2"])
    attempts = -5
    await expect(runManaged(() => fixture.openReader(), resolveSessionOptions(), work)).to.be.rejectedWith("locked")
  })

  it("that are readOnly refuse writes, and the next one on the connection does not", async () => {
    const refused = fixture.maker.run((session) => session.insert(Note, { text: "a" }), { readOnly: true })
    await expect(refused).to.be.rejected.and.eventually.have.nested.property("driverError.code", "SQLITE_READONLY")
    await fixture.maker.run((session) => session.insert(Note, { text: "b" }))
    expect(await fixture.texts()).to.deep.equal(["b"])
  })

  it("leave no handle open after the maker is closed, sessions in flight included", async () => {
    const created = await database.createDatabase()
    const path = created.uri.replace("sqlite:///", "")
    const maker = new SessionMaker(created.uri, { entities: httpEntities, synchronize: true })
    const sessions = await Promise.all([1, 2, 3].map(() => maker.open({ readOnly: true })))
    await Promise.all(sessions.map((session) => session.count(Note)))
    await maker.run((session) => session.insert(Note, { text: "a" }))
    if (process.platform === "linux") expect(openFilesOf(path)).to.not.have.length(0)
    const closed = maker.close()
    await Promise.all(sessions.map((session) => session.close()))
    await closed
    expect(openFilesOf(path)).to.deep.equal([])
    await created.drop()
  })

  it("see another handle's write at their next begin", async () => {
    const other = await fixture.database.open()
    await fixture.maker.run(async (session) => {
      expect(await session.count(Note)).to.equal(0)
      await session.commit()
      await other.query(writeByHand)
      expect(await session.count(Note)).to.equal(1)
    })
  })
})

describeOnEach("sessions on SQLite in memory", memory, (database) => {
  const fixture = useSessions(database)

  it("take turns, and none sees another's open transaction", async () => {
    const entered = new Deferred()
    const leave = new Deferred()
    const first = fixture.maker.run(async (session) => {
      await session.insert(Note, { text: "undone" })
      entered.resolve()
      await leave.promise
      throw new Error("undo")
    })
    first.catch(() => undefined)
    await entered.promise
    const second = fixture.maker.run((session) => session.count(Note))
    await new Promise(setImmediate)
    expect(fixture.maker.stats()).to.include({ open: 2, active: 2, waiting: 1 })
    leave.resolve()
    await expect(first).to.be.rejectedWith("undo")
    expect(await second).to.equal(0)
    expect(fixture.maker.stats().pool).to.deep.equal({ size: 1, max: 1 })
  })

  it("are usable by many at once", async () => {
    await fixture.maker.run((session) => session.insert(Counter, { id: 1, value: 0 }))
    await Promise.all(
      Array.from({ length: 50 }, () =>
        fixture.maker.run((session) => session.increment(Counter, { id: 1 }, "value", 1)),
      ),
    )
    expect(await fixture.rows("SELECT value FROM counter")).to.deep.equal([{ value: 50 }])
  })
})

interface OtherProcess {
  commit(): Promise<void>
}

/** A process that has begun to write, and goes on when it is told to. */
async function lockInAnotherProcess(uri: string): Promise<OtherProcess> {
  const script = `
    const Database = require("better-sqlite3")
    const database = new Database(${JSON.stringify(uri.replace("sqlite:///", ""))})
    database.exec("BEGIN IMMEDIATE; INSERT INTO note (text) VALUES ('other process')")
    console.log("locked")
    process.stdin.once("data", () => { database.exec("COMMIT"); database.close(); process.exit() })`
  const child: ChildProcess = spawn(process.execPath, ["-e", script], { stdio: ["pipe", "pipe", "inherit"] })
  if (!child.stdout || !child.stdin) throw new Error("The other process has no pipes.")
  await once(child.stdout, "data")
  const { stdin } = child
  return {
    async commit() {
      const ended = once(child, "exit")
      stdin.write("commit\n")
      await ended
    },
  }
}

/** Linux only; elsewhere nothing is found. */
function openFilesOf(path: string): string[] {
  try {
    return readdirSync("/proc/self/fd").flatMap((descriptor) => {
      try {
        const target = readlinkSync(`/proc/self/fd/${descriptor}`)
        return target.startsWith(path) ? [target] : []
      } catch {
        return []
      }
    })
  } catch {
    return []
  }
}
