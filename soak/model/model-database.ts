import { mysql } from "../../spec/support/mysql-database"
import { postgres } from "../../spec/support/postgres-database"
import { sqliteFile } from "../../spec/support/sqlite-databases"
import type { SecondConnection, TestDatabase } from "../../spec/support/test-database"
import { firstNumber } from "../database"
import type { Cells } from "./replay"
import { type Cell, markOf, TABLES } from "./statements"

export const KINDS = ["sqlite", "postgres", "mysql"] as const
export type ModelDatabaseKind = (typeof KINDS)[number]

const DATABASES: Record<ModelDatabaseKind, TestDatabase> = { sqlite: sqliteFile, postgres, mysql }

/** The value of a row that was there before the program; no step has this number. */
const BEFORE = markOf(-1)
const KEYS_AT_START = [1, 2]
const LONGEST_END_MS = 2_000

const OPEN_TRANSACTIONS = {
  postgres:
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() " +
    "AND backend_type = 'client backend' AND (state <> 'idle' OR xact_start IS NOT NULL)",
  mysql:
    "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p " +
    "ON p.id = t.trx_mysql_thread_id WHERE p.db = database() AND p.id <> connection_id()",
}

/** The database of the programs, seen from a connection of its own. */
export class ModelDatabase {
  #killing: Promise<void> = Promise.resolve()

  private constructor(
    readonly kind: ModelDatabaseKind,
    readonly uri: string,
    readonly title: string,
    private readonly connection: SecondConnection,
    readonly drop: () => Promise<void>,
  ) {}

  /** @returns why not, where the database is absent */
  static async create(kind: ModelDatabaseKind): Promise<ModelDatabase | string> {
    const database = DATABASES[kind]
    if (!database.available) return database.skipReason ?? "it is not available"
    const { uri, open, drop } = await database.createDatabase()
    const connection = await open()
    // As the application finds it; a file that is made in another mode could not be changed while it is in use.
    if (kind === "sqlite") await connection.query("PRAGMA journal_mode = WAL")
    for (const name of [...TABLES.map((table) => `model_${table}`), "model_scratch"]) {
      await connection.query(`CREATE TABLE ${name} (id int PRIMARY KEY, value int NOT NULL)`)
    }
    return new ModelDatabase(kind, uri, await database.version(), connection, drop)
  }

  /** @returns what the tables then hold */
  async restore(): Promise<Cells> {
    const cells = new Map<string, number>()
    for (const table of TABLES) {
      await this.connection.query(`DELETE FROM model_${table}`)
      const rows = KEYS_AT_START.map((key) => `(${key}, ${BEFORE})`)
      await this.connection.query(`INSERT INTO model_${table} (id, value) VALUES ${rows.join(", ")}`)
      for (const key of KEYS_AT_START) cells.set(`${table}${key}`, BEFORE)
    }
    return cells
  }

  async cells(): Promise<Cells> {
    const cells = new Map<string, number>()
    for (const table of TABLES) {
      const rows = (await this.connection.query(`SELECT id, value FROM model_${table}`)) as unknown as Cell[]
      for (const { id, value } of rows) cells.set(`${table}${id}`, Number(value))
    }
    return cells
  }

  /** @returns transactions of others that stay open; one that is just being ended is waited for */
  async openTransactions(): Promise<number> {
    const deadline = performance.now() + LONGEST_END_MS
    for (;;) {
      const open = await this.#openNow()
      if (open === 0 || performance.now() > deadline) return open
      await new Promise(setImmediate)
    }
  }

  async #openNow(): Promise<number> {
    if (this.kind !== "sqlite") return firstNumber(await this.connection.query(OPEN_TRANSACTIONS[this.kind]))
    try {
      await this.connection.query("BEGIN IMMEDIATE")
      await this.connection.query("ROLLBACK")
    } catch (error) {
      if ((error as { code?: string }).code !== "SQLITE_BUSY") throw error
      return 1
    }
    const [checkpoint] = await this.connection.query("PRAGMA wal_checkpoint(TRUNCATE)")
    // A reader that is left open keeps the log from being emptied.
    return Number(checkpoint?.busy)
  }

  /** Ends the connections of everybody else. Calls may overlap, the connection takes one statement after another. */
  kill(): Promise<void> {
    this.#killing = this.#killing.then(() => this.#kill())
    return this.#killing
  }

  async #kill(): Promise<void> {
    if (this.kind === "postgres") {
      await this.connection.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() " +
          "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
      )
    } else if (this.kind === "mysql") {
      const threads = await this.connection.query(
        "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
      )
      for (const { id } of threads) {
        await this.connection.query(`KILL CONNECTION ${Number(id)}`).catch((error: { code?: string }) => {
          // It ended by itself meanwhile.
          if (error.code !== "ER_NO_SUCH_THREAD") throw error
        })
      }
    }
  }
}
