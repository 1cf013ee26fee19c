import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import type { SecondConnection, TestDatabase } from "../../support/databases"
import type { RestartMessage, ServerMessage } from "../../support/embedded-postgres-server"
import { OpenConnections, type Row } from "../../support/test-database"

/** A PostgreSQL server of one spec file, which can be restarted on the same port with the same data. */
export interface PrivatePostgres {
  readonly uri: string
  /** The one database of the server, for `startSessionApp()`; emptied at `drop()`. */
  readonly database: TestDatabase
  /** Resolves when it accepts connections again. */
  restart(by: RestartMessage["restart"]): Promise<void>
  /** Ends it and removes its data. */
  remove(): Promise<void>
}

interface RawClient {
  connect(): Promise<unknown>
  query(sql: string, params?: readonly unknown[]): Promise<{ rows: Row[] }>
  end(): Promise<void>
  on(event: "error", listener: () => void): unknown
}

const { Client } = require("pg") as { Client: new (options: { connectionString: string }) => RawClient }

export async function startPrivatePostgres(): Promise<PrivatePostgres> {
  const child = fork(join(__dirname, "..", "..", "support", "embedded-postgres-server.js"), {
    detached: true,
    execArgv: [],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  })
  const uri = await answerOf(child)
  return {
    uri,
    database: databaseAt(uri),
    async restart(by) {
      child.send({ restart: by } satisfies RestartMessage)
      await answerOf(child)
    },
    async remove() {
      const ended = once(child, "exit")
      child.disconnect()
      await ended
    },
  }
}

async function answerOf(child: ChildProcess): Promise<string> {
  const answer = await new Promise<ServerMessage>((resolve) => {
    child.once("message", (message) => resolve(message as ServerMessage))
    child.once("exit", (code) => resolve({ failure: `its process ended with code ${code}` }))
    child.once("error", ({ message }) => resolve({ failure: message }))
  })
  if ("failure" in answer) throw new Error(`The private PostgreSQL server: ${answer.failure}`)
  return answer.uri
}

function databaseAt(uri: string): TestDatabase {
  return {
    name: "PostgreSQL",
    kind: "postgres",
    available: true,
    version: async () => "PostgreSQL (private)",
    async createDatabase() {
      const connections = new OpenConnections()
      return {
        uri,
        open: async () => connections.add(await connect(uri)),
        async drop() {
          await connections.closeAll()
          const last = await connect(uri)
          await last.query("DROP SCHEMA public CASCADE")
          await last.query("CREATE SCHEMA public")
          await last.close()
        },
      }
    },
  }
}

async function connect(uri: string): Promise<SecondConnection> {
  const client = new Client({ connectionString: uri })
  // The server is stopped under it.
  client.on("error", () => {})
  await client.connect()
  return {
    query: async (sql, params = []) => (await client.query(sql, params)).rows,
    close: () => client.end().catch(() => {}),
  }
}
