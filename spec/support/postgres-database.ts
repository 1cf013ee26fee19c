import { embeddedPostgresUri } from "./embedded-postgres"
import {
  OpenConnections,
  type Row,
  type SecondConnection,
  type TestDatabase,
  uniqueDatabaseName,
  withDatabase,
} from "./test-database"

interface RawClient {
  connect(): Promise<unknown>
  query(sql: string, params?: readonly unknown[]): Promise<{ rows: Row[] }>
  end(): Promise<void>
  on(event: "error", listener: (error: Error) => void): unknown
}

// pg ships no types; these are the calls that the specs make.
const { Client } = require("pg") as { Client: new (options: { connectionString: string }) => RawClient }

export async function connectToPostgres(uri: string): Promise<SecondConnection> {
  const client = new Client({ connectionString: uri })
  // A backend that a spec terminates reports it here too; without a listener the whole run would end.
  client.on("error", () => {})
  await client.connect()
  return {
    query: async (sql, params = []) => (await client.query(sql, params)).rows,
    close: () => client.end(),
  }
}

async function onServer<T>(fn: (connection: SecondConnection) => Promise<T>): Promise<T> {
  const connection = await connectToPostgres(await serverUri())
  try {
    return await fn(connection)
  } finally {
    await connection.close()
  }
}

async function serverUri(): Promise<string> {
  return process.env.TEST_POSTGRES_URI ?? (await embeddedPostgresUri())
}

export const postgres: TestDatabase = {
  name: "PostgreSQL",
  kind: "postgres",
  available: true,
  async version() {
    const from = process.env.TEST_POSTGRES_URI === undefined ? "embedded" : "TEST_POSTGRES_URI"
    const [row] = await onServer((connection) => connection.query("SHOW server_version"))
    return `PostgreSQL ${row?.server_version} (${from})`
  },
  async createDatabase() {
    const name = uniqueDatabaseName()
    await onServer((connection) => connection.query(`CREATE DATABASE ${name}`))
    const uri = withDatabase(await serverUri(), name)
    const connections = new OpenConnections()
    return {
      uri,
      open: async () => connections.add(await connectToPostgres(uri)),
      async drop() {
        await connections.closeAll()
        await onServer((connection) => connection.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
      },
    }
  },
}
