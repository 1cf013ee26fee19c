import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { OpenConnections, type Row, type SecondConnection, type TestDatabase } from "./test-database"

interface RawStatement {
  readonly reader: boolean
  all(...params: readonly unknown[]): Row[]
  run(...params: readonly unknown[]): unknown
}

interface RawDatabase {
  prepare(sql: string): RawStatement
  close(): void
}

// better-sqlite3 ships no types; these are the three calls that the specs make.
const BetterSqlite3 = require("better-sqlite3") as new (path: string, options?: { timeout?: number }) => RawDatabase

function connect(path: string): SecondConnection {
  // Waiting for a lock would block the event loop, and with it the very session that holds the lock.
  const database = new BetterSqlite3(path, { timeout: 0 })
  return {
    async query(sql, params = []) {
      const statement = database.prepare(sql)
      if (statement.reader) return statement.all(...params)
      statement.run(...params)
      return []
    },
    async close() {
      database.close()
    },
  }
}

async function version(): Promise<string> {
  const connection = connect(":memory:")
  const [row] = await connection.query("SELECT sqlite_version() AS version")
  await connection.close()
  return `SQLite ${row?.version}`
}

export const sqliteFile: TestDatabase = {
  name: "SQLite file",
  kind: "sqlite",
  isFile: true,
  available: true,
  version,
  async createDatabase() {
    const folder = await mkdtemp(join(tmpdir(), "sqlite-spec-"))
    const path = join(folder, "app.db")
    const connections = new OpenConnections()
    return {
      uri: `sqlite:///${path}`,
      open: async () => connections.add(connect(path)),
      async drop() {
        await connections.closeAll()
        await rm(folder, { recursive: true, force: true })
      },
    }
  },
}

export const sqliteMemory: TestDatabase = {
  name: "SQLite memory",
  kind: "sqlite",
  isFile: false,
  available: true,
  version,
  async createDatabase() {
    return {
      uri: "sqlite://",
      open: () => Promise.reject(new Error("A SQLite database in memory has one connection: nobody else can see it.")),
      drop: async () => {},
    }
  },
}
