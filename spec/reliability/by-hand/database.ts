import type { Row } from "../../support/test-database"

interface RawClient {
  connect(): Promise<unknown>
  query(sql: string): Promise<{ rows: Row[] }>
  end(): Promise<void>
  on(event: "error", listener: () => void): unknown
}

const { Client } = require("pg") as { Client: new (options: { connectionString: string }) => RawClient }

/** A new database of the server that the runner named, and a way to read it on connections of their own. */
export async function startPrivateDatabase(): Promise<{ uri: string; rows(sql: string): Promise<Row[]> }> {
  const server = process.argv[3] ?? ""
  const name = `by_hand_${process.pid}`
  await query(server, `CREATE DATABASE ${name}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  return { uri: url.href, rows: (sql) => query(url.href, sql) }
}

async function query(uri: string, sql: string): Promise<Row[]> {
  const client = new Client({ connectionString: uri })
  client.on("error", () => undefined)
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}
