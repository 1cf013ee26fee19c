import type { DataSource } from "typeorm"

/**
 * Makes `gen_random_uuid()` available and the default of server-generated GUID columns. Creates the pgcrypto extension
 * where the server lacks the function (before PostgreSQL 13); does nothing on other databases and when called again.
 * On a `DataSource` that is not initialised yet it only chooses the default; TypeORM then creates the extension itself.
 * @throws {QueryFailedError} when the extension is needed and this user may not create it.
 * @see fastapi-restful `setup_guids_postgresql`: that one always creates the extension.
 */
export async function setupGuidsPostgres(dataSource: DataSource): Promise<void> {
  const { options } = dataSource
  if (options.type !== "postgres") return
  // TypeORM takes uuid_generate_v4() of uuid-ossp unless told this (typeorm 1.1.1 `PostgresDriver.uuidGenerator`).
  if (options.uuidExtension === undefined) Object.assign(options, { uuidExtension: "pgcrypto" })
  if (!dataSource.isInitialized) return
  const rows: { available: boolean }[] = await dataSource.query(
    "SELECT to_regprocedure('gen_random_uuid()') IS NOT NULL AS available",
  )
  if (rows[0]?.available !== true) await dataSource.query('CREATE EXTENSION IF NOT EXISTS "pgcrypto"')
}
