import { mysql } from "./mysql-database"
import { postgres } from "./postgres-database"
import { sqliteFile, sqliteMemory } from "./sqlite-databases"
import type { TestDatabase } from "./test-database"

export type { CreatedDatabase, DatabaseKind, Row, SecondConnection, TestDatabase } from "./test-database"

const used = new Set<string>()

function remembered(database: TestDatabase): TestDatabase {
  return {
    ...database,
    createDatabase() {
      used.add(database.name)
      return database.createDatabase()
    },
  }
}

/** Every database that the specs know, absent ones included: see `available` and `skipReason`. */
export const testDatabases: readonly TestDatabase[] = [sqliteFile, sqliteMemory, postgres, mysql].map(remembered)

/** The same, each new database with what the statements make in it, before anybody else connects to it. */
export function prepared(database: TestDatabase, ...statements: readonly string[]): TestDatabase {
  return {
    ...database,
    async createDatabase() {
      const created = await database.createDatabase()
      const connection = await created.open()
      try {
        for (const statement of statements) await connection.query(statement)
      } finally {
        await connection.close()
      }
      return created
    },
  }
}

/**
 * Defines the same specs once per database, each in a `describe` of its own; an absent database shows as pending.
 * @example describeOnEach("SessionMaker.run()", testDatabases, (database) => { it("commits", async () => {}) })
 */
export function describeOnEach(
  title: string,
  databases: readonly TestDatabase[],
  define: (database: TestDatabase) => void,
): void {
  describe(title, () => {
    for (const database of databases) {
      describe(`on ${database.name}`, () => {
        if (database.available) define(database)
        else it(`is skipped: ${database.skipReason}`)
      })
    }
  })
}

/** Where `CI=true` a database that is absent is a failure, not a skip. */
export function requireDatabasesInCi(): void {
  if (process.env.CI !== "true") return
  const absent = testDatabases.filter(({ available }) => !available)
  if (absent.length === 0) return
  throw new Error(`CI=true needs every database. ${absent.map((one) => `${one.name}: ${one.skipReason}`).join("; ")}`)
}

/** One line per database: the version that the specs ran against, or why they did not. */
export async function databaseReport(): Promise<string[]> {
  return Promise.all(
    testDatabases.map(async (database) => {
      if (!database.available) return `${database.name}: skipped, ${database.skipReason}`
      if (!used.has(database.name)) return `${database.name}: not used in this run`
      return `${database.name}: ${await database.version()}`
    }),
  )
}
