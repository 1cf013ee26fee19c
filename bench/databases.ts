import { postgres } from "../spec/support/postgres-database"
import { sqliteFile } from "../spec/support/sqlite-databases"
import type { TestDatabase } from "../spec/support/test-database"

export const ROWS = 10_000

/** A database with the tables of the bench, `ROWS` rows in it. */
export interface BenchDatabase {
  readonly uri: string
  readonly version: string
  drop(): Promise<void>
}

/** As the entities of `servers/entities.ts` have it; not made by them, so that the specs do not import these. */
const TABLES = [
  `CREATE TABLE "bench_row" ("id" int PRIMARY KEY, "name" varchar NOT NULL, "email" varchar NOT NULL, "score" int NOT NULL)`,
  `INSERT INTO "bench_row" WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${ROWS})
   SELECT n, 'name ' || n, 'name' || n || '@example.org', n % 100 FROM numbers`,
]

/** On the server of `TEST_POSTGRES_URI`, or else on an embedded one, which the caller stops. */
export function createPostgres(): Promise<BenchDatabase> {
  const notes = `CREATE TABLE "bench_note" ("id" serial PRIMARY KEY, "rowId" int NOT NULL, "text" varchar NOT NULL)`
  return create(postgres, [...TABLES, notes, "VACUUM ANALYZE"])
}

/** A file. */
export function createSqliteFile(): Promise<BenchDatabase> {
  const notes = `CREATE TABLE "bench_note" ("id" integer PRIMARY KEY AUTOINCREMENT, "rowId" int NOT NULL, "text" varchar NOT NULL)`
  return create(sqliteFile, ["PRAGMA journal_mode = WAL", ...TABLES, notes, "ANALYZE"])
}

async function create(database: TestDatabase, statements: readonly string[]): Promise<BenchDatabase> {
  const { uri, open, drop } = await database.createDatabase()
  try {
    const connection = await open()
    for (const statement of statements) await connection.query(statement)
    await connection.close()
    return { uri, version: await database.version(), drop }
  } catch (error) {
    await drop()
    throw error
  }
}
