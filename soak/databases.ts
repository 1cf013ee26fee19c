import { setTimeout as sleep } from "node:timers/promises"
import { mysql } from "../spec/support/mysql-database"
import { sqliteFile } from "../spec/support/sqlite-databases"
import { uniqueDatabaseName, withDatabase } from "../spec/support/test-database"
import { ACCOUNTS } from "./bank"
import {
  choose,
  createTables,
  firstNumber,
  type SecondConnection,
  type SkippedDatabase,
  type SoakDatabase,
  withConnection,
} from "./database"
import type { BankDatabase } from "./plan"
import { startPostgresServer } from "./postgres-server"

/** The tables are there, with the opening balances. */
export async function createSoakDatabase(kind: BankDatabase): Promise<SoakDatabase | SkippedDatabase> {
  const database = await { sqlite: createSqlite, postgres: createPostgres, mysql: createMysql }[kind]()
  if (!("skipReason" in database)) {
    await withConnection(database.open, (connection) => createTables(connection, kind))
  }
  return database
}

async function createSqlite(): Promise<SoakDatabase> {
  const created = await sqliteFile.createDatabase()
  // As the application finds it; a file that is made in another mode could not be changed while it is in use.
  await withConnection(created.open, (connection) => connection.query("PRAGMA journal_mode = WAL"))
  return {
    kind: "sqlite",
    title: `${await sqliteFile.version()} (file)`,
    uri: created.uri,
    open: created.open,
    kill: async () => 0,
    cancel: async () => 0,
    lock: (_choice, lastsMs) =>
      withConnection(created.open, async (connection) => {
        if (!(await beginImmediate(connection))) return 0
        await sleep(lastsMs)
        await connection.query("ROLLBACK")
        return 1
      }),
    idleInTransaction: () =>
      withConnection(created.open, async (connection) => {
        await connection.query("BEGIN IMMEDIATE")
        await connection.query("ROLLBACK")
        const [checkpoint] = await connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
        // A reader that is left open keeps the log from being emptied.
        return Number(checkpoint?.busy)
      }),
    drop: created.drop,
  }
}

/** Between two transactions of the application there is hardly ever a gap. */
async function beginImmediate(connection: SecondConnection): Promise<boolean> {
  const deadline = performance.now() + 2_000
  for (;;) {
    try {
      await connection.query("BEGIN IMMEDIATE")
      return true
    } catch (error) {
      if ((error as { code?: string }).code !== "SQLITE_BUSY") throw error
      if (performance.now() > deadline) return false
    }
    await sleep(1)
  }
}

interface PgClient {
  connect(): Promise<unknown>
  query(sql: string, params?: readonly unknown[]): Promise<{ rows: Record<string, unknown>[] }>
  end(): Promise<void>
  on(event: "error", listener: (error: Error) => void): unknown
}

// pg ships no types; these are the calls that are made here.
const { Client } = require("pg") as { Client: new (options: { connectionString: string }) => PgClient }

async function connectPostgres(uri: string): Promise<SecondConnection> {
  const client = new Client({ connectionString: uri })
  // The server is ended while it is in use; without a listener the whole run would end with it.
  client.on("error", () => undefined)
  await client.connect()
  return { query: async (sql, params = []) => (await client.query(sql, params)).rows, close: () => client.end() }
}

async function createPostgres(): Promise<SoakDatabase> {
  const server = await startPostgresServer()
  const name = uniqueDatabaseName()
  const title = await withConnection(
    () => connectPostgres(server.uri),
    async (connection) => {
      await connection.query(`CREATE DATABASE ${name}`)
      // Clients that wait for one another are to be found out within the run.
      await connection.query(`ALTER DATABASE ${name} SET deadlock_timeout = '50ms'`)
      const [row] = await connection.query("SHOW server_version")
      return `PostgreSQL ${row?.server_version} (embedded)`
    },
  )
  const uri = withDatabase(server.uri, name)
  const open = () => connectPostgres(uri)
  const others =
    "FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' " +
    "AND pid <> pg_backend_pid()"
  return {
    kind: "postgres",
    title,
    uri,
    open,
    kill: (choice) =>
      withConnection(open, async (connection) => {
        const backends = await connection.query(`SELECT pid ${others} ORDER BY pid`)
        const victims = choice === undefined ? backends : [choose(backends, choice)].filter((one) => one !== undefined)
        for (const { pid } of victims) await connection.query("SELECT pg_terminate_backend($1)", [pid])
        return victims.length
      }),
    cancel: (choice) =>
      withConnection(open, async (connection) => {
        const victim = choose(await connection.query(`SELECT pid ${others} AND state = 'active' ORDER BY pid`), choice)
        if (victim === undefined) return 0
        await connection.query("SELECT pg_cancel_backend($1)", [victim.pid])
        return 1
      }),
    lock: (choice, lastsMs) => withConnection(open, (connection) => lockRows(connection, choice, lastsMs)),
    restart: (signal) => server.restart(signal),
    idleInTransaction: () =>
      withConnection(open, async (connection) =>
        firstNumber(
          await connection.query(`SELECT count(*) ${others} AND (state <> 'idle' OR xact_start IS NOT NULL)`),
        ),
      ),
    drop: () => server.stop(),
  }
}

async function createMysql(): Promise<SoakDatabase | SkippedDatabase> {
  if (!mysql.available) return { kind: "mysql", skipReason: mysql.skipReason ?? "" }
  const version = await mysql.version()
  const created = await mysql.createDatabase()
  const { open } = created
  const others = "FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
  /** It may have ended by itself meanwhile. */
  const endThread = async (connection: SecondConnection, what: string, id: unknown) => {
    await connection.query(`KILL ${what} ${Number(id)}`).catch((error: { code?: string }) => {
      if (error.code !== "ER_NO_SUCH_THREAD") throw error
    })
  }
  return {
    kind: "mysql",
    title: version.startsWith("MySQL") ? version : `MariaDB ${version}`,
    uri: created.uri,
    open,
    kill: (choice) =>
      withConnection(open, async (connection) => {
        const threads = await connection.query(`SELECT id ${others} ORDER BY id`)
        const victims = choice === undefined ? threads : [choose(threads, choice)].filter((one) => one !== undefined)
        for (const { id } of victims) await endThread(connection, "CONNECTION", id)
        return victims.length
      }),
    cancel: (choice) =>
      withConnection(open, async (connection) => {
        const running = await connection.query(`SELECT id ${others} AND command <> 'Sleep' ORDER BY id`)
        const victim = choose(running, choice)
        if (victim === undefined) return 0
        await endThread(connection, "QUERY", victim.id)
        return 1
      }),
    lock: (choice, lastsMs) => withConnection(open, (connection) => lockRows(connection, choice, lastsMs)),
    idleInTransaction: () =>
      withConnection(open, async (connection) =>
        firstNumber(
          await connection.query(
            "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p " +
              "ON p.id = t.trx_mysql_thread_id WHERE p.db = database() AND p.id <> connection_id()",
          ),
        ),
      ),
    drop: created.drop,
  }
}

/** Ten accounts in a row. The connection may be ended meanwhile, by the same hand that kills those of the application. */
async function lockRows(connection: SecondConnection, choice: number, lastsMs: number): Promise<number> {
  const first = 1 + Math.floor(choice * (ACCOUNTS - 10))
  try {
    await connection.query("BEGIN")
    await connection.query(`SELECT id FROM account WHERE id BETWEEN ${first} AND ${first + 9} ORDER BY id FOR UPDATE`)
    await sleep(lastsMs)
    await connection.query("ROLLBACK")
    return 1
  } catch {
    // Ended, or chosen as the victim of a deadlock: the lock is gone either way.
    return 0
  }
}
