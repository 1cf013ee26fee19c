import { type DatabaseKind, type Row, type TestDatabase, testDatabases } from "../../support/databases"
import type { SessionApp } from "../../support/session-app"

/** The databases of which a second connection can see what is committed. */
export const shared: readonly TestDatabase[] = testDatabases.filter(({ name }) => name !== "SQLite memory")

/** The databases that are servers: their connections can be killed and their statements cancelled. */
export const servers: readonly TestDatabase[] = testDatabases.filter(({ kind }) => kind !== "sqlite")

export const postgresOnly: readonly TestDatabase[] = testDatabases.filter(({ kind }) => kind === "postgres")

/** Runs one statement on a connection of its own. */
export async function directly(app: SessionApp, sql: string): Promise<Row[]> {
  const direct = await app.database.open()
  try {
    return await direct.query(sql)
  } finally {
    await direct.close()
  }
}

/** Ends the server's side of one connection, as an administrator or a failing server does. */
export async function killConnection(app: SessionApp, kind: DatabaseKind, id: number): Promise<void> {
  await directly(app, kind === "postgres" ? `SELECT pg_terminate_backend(${id})` : `KILL ${id}`)
}

/** The same for every connection that the application's `DataSource` has. */
export async function killPool(app: SessionApp, kind: DatabaseKind): Promise<void> {
  const ids = await connectionIds(app, kind)
  await Promise.all(ids.map((id) => killConnection(app, kind, id)))
}

/** The server's numbers of the connections to the application's database, those of the spec itself left out. */
async function connectionIds(app: SessionApp, kind: DatabaseKind): Promise<number[]> {
  const [own] = await app.rows(connectionIdSql(kind))
  const rows = await app.rows(
    kind === "postgres"
      ? "SELECT pid AS id FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
      : "SELECT id AS id FROM information_schema.processlist WHERE db = database()",
  )
  return rows.map(({ id }) => Number(id)).filter((id) => id !== Number(own?.id))
}

/** The statement that gives the server's number of the connection that runs it. */
export function connectionIdSql(kind: DatabaseKind): string {
  return kind === "postgres" ? "SELECT pg_backend_pid() AS id" : "SELECT connection_id() AS id"
}
