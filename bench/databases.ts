import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DataSource } from "typeorm"
import { stopEmbeddedPostgres } from "../spec/support/embedded-postgres"
import { postgres } from "../spec/support/postgres-database"
import { sqliteFile } from "../spec/support/sqlite-databases"
import { dataSourceOptions } from "./servers/data-source"

export const ROWS = 10_000

/** A database with the tables of the bench, `ROWS` rows in it. */
export interface BenchDatabase {
  readonly uri: string
  readonly version: string
  drop(): Promise<void>
}

/** On the server of `TEST_POSTGRES_URI`, or else on an embedded one. */
export async function createPostgres(): Promise<BenchDatabase> {
  const { uri, drop } = await postgres.createDatabase()
  await fill(
    uri,
    `SELECT n, 'name ' || n, 'name' || n || '@example.org', n % 100 FROM generate_series(1, ${ROWS}) AS n`,
  )
  return {
    uri,
    version: await postgres.version(),
    async drop() {
      await drop()
      await stopEmbeddedPostgres()
    },
  }
}

/** A file in a folder of its own. */
export async function createSqliteFile(): Promise<BenchDatabase> {
  const folder = await mkdtemp(join(tmpdir(), "bench-"))
  const uri = `sqlite:///${join(folder, "bench.db")}`
  const numbers = `WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${ROWS})`
  await fill(uri, `${numbers} SELECT n, 'name ' || n, 'name' || n || '@example.org', n % 100 FROM numbers`)
  return {
    uri,
    version: await sqliteFile.version(),
    drop: () => rm(folder, { recursive: true, force: true }),
  }
}

async function fill(uri: string, rows: string): Promise<void> {
  const dataSource = await new DataSource({ ...dataSourceOptions(uri), synchronize: true }).initialize()
  try {
    await dataSource.query(`INSERT INTO "bench_row" ("id", "name", "email", "score") ${rows}`)
    await dataSource.query(dataSource.options.type === "postgres" ? "VACUUM ANALYZE" : "ANALYZE")
  } finally {
    await dataSource.destroy()
  }
}
