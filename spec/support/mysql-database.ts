import { createConnection } from "mysql2/promise"
import {
  OpenConnections,
  type Row,
  type SecondConnection,
  type TestDatabase,
  uniqueDatabaseName,
  withDatabase,
} from "./test-database"

const serverUri = process.env.TEST_MYSQL_URI

export async function connectToMysql(uri: string): Promise<SecondConnection> {
  const connection = await createConnection(uri)
  // A connection that a spec kills reports it here too; without a listener the whole run would end.
  connection.on("error", () => {})
  return {
    async query(sql, params = []) {
      const [rows] = await connection.query(sql, [...params])
      return Array.isArray(rows) ? (rows as Row[]) : []
    },
    close: () => connection.end(),
  }
}

async function onServer<T>(fn: (connection: SecondConnection) => Promise<T>): Promise<T> {
  if (serverUri === undefined) throw new Error("TEST_MYSQL_URI is not set")
  const connection = await connectToMysql(serverUri)
  try {
    return await fn(connection)
  } finally {
    await connection.close()
  }
}

async function dropDatabase(name: string): Promise<void> {
  await onServer(async (connection) => {
    // DROP DATABASE would wait for the open transactions of whoever is still connected.
    const others = await connection.query("SELECT id FROM information_schema.processlist WHERE db = ?", [name])
    for (const { id } of others) {
      await connection.query(`KILL ${Number(id)}`).catch((error: { code?: string }) => {
        if (error.code !== "ER_NO_SUCH_THREAD") throw error
      })
    }
    await connection.query(`DROP DATABASE IF EXISTS ${name}`)
  })
}

export const mysql: TestDatabase = {
  name: "MariaDB/MySQL",
  kind: "mysql",
  available: serverUri !== undefined,
  ...(serverUri === undefined && { skipReason: "TEST_MYSQL_URI is not set" }),
  async version() {
    const [row] = await onServer((connection) => connection.query("SELECT version() AS version"))
    return /mariadb/i.test(String(row?.version)) ? String(row?.version) : `MySQL ${row?.version}`
  },
  async createDatabase() {
    const name = uniqueDatabaseName()
    await onServer((connection) => connection.query(`CREATE DATABASE ${name}`))
    const uri = withDatabase(serverUri ?? "", name)
    const connections = new OpenConnections()
    return {
      uri,
      open: async () => connections.add(await connectToMysql(uri)),
      async drop() {
        await connections.closeAll()
        await dropDatabase(name)
      },
    }
  },
}
