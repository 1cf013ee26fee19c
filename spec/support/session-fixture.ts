import type { DataSource } from "typeorm"
import { runManaged } from "../../src/session/managed"
import { resolveSessionOptions, type SessionOptions } from "../../src/session/options"
import type { Session } from "../../src/session/session"
import type { SessionContext } from "../../src/session/session-context"
import { reportAsWarning, SessionMaker, type SessionMakerOptions } from "../../src/session/session-maker"
import type { CreatedDatabase, Row, SecondConnection, TestDatabase } from "./databases"
import { Counter, httpEntities, Note, Remark } from "./http-entities"
import { type MysqlLog, startMysqlLog } from "./mysql-log"
import { createSqliteLog } from "./sqlite-log"
import type { StatementLog } from "./statement-log"
import { startWireLog, type WireLog } from "./wire-log"

export { Counter, Note, Remark } from "./http-entities"

/** A maker on a database with the tables of `httpEntities`, and all that can be seen of it from outside. */
export interface SessionFixture {
  /** New for each spec; closed after it, which fails where a session is still open. */
  readonly maker: SessionMaker
  readonly dataSource: DataSource
  /** Below TypeORM: the wire, or the driver's trace. Empty at the start of each spec. */
  readonly log: StatementLog
  /** PostgreSQL only. */
  readonly wire: WireLog
  readonly database: CreatedDatabase
  /** Makes another maker on the same tables, which the caller closes; SQLite in memory has a database for each. */
  makeMaker(options?: SessionMakerOptions): SessionMaker
  /** Opens a session as a GET request would: it is expected to read. The caller ends it. */
  openReader(options?: SessionOptions): Promise<Session>
  /** The same as `maker.run()`, with a session of `openReader()`. */
  runReader<T>(fn: (session: Session) => T | Promise<T>, options?: SessionOptions): Promise<T>
  /** Reads on a connection of its own, not in the log; an in-memory database has only that of the maker. */
  rows(sql: string): Promise<Row[]>
  /** What the table of notes holds, as `rows()` sees it. */
  texts(): Promise<unknown[]>
}

interface Mutable extends SessionFixture {
  maker: SessionMaker
  dataSource: DataSource
  log: StatementLog
  wire: WireLog
  database: CreatedDatabase
}

const READER: SessionContext = {
  asWriter: false,
  label: () => "GET /spec",
  report: reportAsWarning,
}

/** What a new SQLite connection is set up with: it belongs to no session. */
const CONNECTING = /^PRAGMA (foreign_keys|journal_mode|busy_timeout)/

/** Registers mocha hooks that fill the fixture: the database once for the `describe`, a maker for each spec. */
export function useSessions(testDatabase: TestDatabase, options: SessionMakerOptions = {}): SessionFixture {
  const isMemory = testDatabase.isFile === false
  const trace = createSqliteLog()
  const verbose = (message?: unknown) => {
    if (!isReading && !CONNECTING.test(String(message))) trace.verbose(message)
  }
  let isReading = false
  let second: SecondConnection | undefined
  let proxy: WireLog | MysqlLog | undefined

  const fixture = {
    makeMaker(more: SessionMakerOptions = {}) {
      return new SessionMaker(proxy?.uri ?? fixture.database.uri, {
        entities: httpEntities,
        ...(testDatabase.kind === "sqlite" && { verbose }),
        ...options,
        ...more,
      })
    },
    async openReader(own: SessionOptions = {}) {
      return fixture.maker.openWith(resolveSessionOptions(fixture.maker.sessionDefaults, own), READER)
    },
    async runReader<T>(fn: (session: Session) => T | Promise<T>, own: SessionOptions = {}) {
      return runManaged(() => fixture.openReader(own), resolveSessionOptions(fixture.maker.sessionDefaults, own), fn)
    },
    async rows(sql: string) {
      if (second) return second.query(sql)
      isReading = true
      try {
        return (await fixture.dataSource.query(sql)) as Row[]
      } finally {
        isReading = false
      }
    },
    async texts() {
      return (await fixture.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text)
    },
  } as Mutable

  before(async () => {
    fixture.database = await testDatabase.createDatabase()
    if (testDatabase.kind === "postgres") {
      fixture.wire = await startWireLog(fixture.database.uri)
      proxy = fixture.wire
    } else if (testDatabase.kind === "mysql") proxy = await startMysqlLog(fixture.database.uri)
    fixture.log = proxy ?? trace
    if (isMemory) return
    const maker = fixture.makeMaker()
    await (await maker.dataSource()).synchronize()
    await maker.close()
  })

  beforeEach(async () => {
    fixture.maker = fixture.makeMaker()
    fixture.dataSource = await fixture.maker.dataSource()
    if (isMemory) await fixture.dataSource.synchronize()
    else second = await fixture.database.open()
    for (const { name } of [Remark, Note, Counter]) await fixture.rows(`DELETE FROM ${name.toLowerCase()}`)
    fixture.log.clear()
  })

  afterEach(async function () {
    fixture.wire?.setDelay(0)
    const { open } = fixture.maker.stats()
    await fixture.maker.close({ timeoutMs: 1 })
    await second?.close()
    second = undefined
    // A spec that failed may have left them open; another failure, in a hook, would end the whole `describe`.
    if (open > 0 && this.currentTest?.state === "passed") throw new Error(`${open} sessions are still open.`)
  })

  after(async () => {
    await proxy?.stop()
    await fixture.database?.drop()
  })

  return fixture
}
