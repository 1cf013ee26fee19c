import { once } from "node:events"
import { mkdirSync } from "node:fs"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { relative } from "node:path"
import { SessionMaker, shutdown } from "routing-controllers-typeorm"
import { Container } from "typedi"
import type { DataSource } from "typeorm"
import { createApp } from "./app"
import { seed } from "./seed"
import { DATA_FOLDER, DEFAULT_DATABASE_URI, DemoSettings } from "./settings"

/** Longest wait for requests in flight. */
const STOP_MS = 5_000

async function main(): Promise<void> {
  const { databaseUri, port } = DemoSettings.load()
  if (databaseUri === DEFAULT_DATABASE_URI) mkdirSync(DATA_FOLDER, { recursive: true })
  const maker = new SessionMaker(databaseUri)
  Container.set(SessionMaker, maker)
  try {
    const user = await seed(maker)
    const server = createServer(createApp().callback()).listen(port)
    await once(server, "listening")
    stopOnSignals(server, maker)
    const url = `http://localhost:${(server.address() as AddressInfo).port}`
    console.log(instructions(url, user.id, describeDatabase(await maker.dataSource())))
  } catch (error) {
    // Idle connections of the pool would keep the process alive.
    await maker.close()
    throw error
  }
}

/** The process ends by itself once nothing is left open. A second signal, which `npm` may send, changes nothing. */
function stopOnSignals(server: Server, maker: SessionMaker): void {
  let isStopping = false
  const stop = async (): Promise<void> => {
    if (isStopping) return
    isStopping = true
    console.log("Stopping: requests in flight are finished first.")
    const hasFinished = await shutdown(server, maker, { timeoutMs: STOP_MS })
    console.log(hasFinished ? "Stopped." : "Stopped; what was still running was rolled back.")
  }
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void stop().catch(fail))
}

/** Nothing of the URI itself, which may hold a password. */
function describeDatabase({ options }: DataSource): string {
  if (options.type === "better-sqlite3") {
    return options.database === ":memory:" ? "SQLite in memory" : `SQLite, ${relative(process.cwd(), options.database)}`
  }
  const { type, host, port, database } = options as { type: string; host?: string; port?: number; database?: string }
  return `${type}, ${host}:${port}/${database}`
}

/** The comment is in front, where no shell takes it for arguments. */
function instructions(url: string, userId: string, database: string): string {
  return `
Listening on ${url}   (${database})

  a name      curl ${url}/${userId}
  a page      curl ${url}/
  a new one   curl -d name=Barbara ${url}/
  404         curl -i ${url}/00000000-0000-4000-8000-000000000000
  400         curl -i ${url}/not-a-guid
  delete      curl -i -X DELETE ${url}/${userId}

Stop with Ctrl-C. The same on PostgreSQL:
  DATABASE_URI=postgres://user:password@localhost:5432/database npm run demo
`
}

function fail(error: unknown): void {
  console.error(describeError(error))
  process.exitCode = 1
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code, port } = error as NodeJS.ErrnoException & { port?: number }
  if (code === "EADDRINUSE") return `Port ${port} is taken. Choose another one: PORT=${Number(port) + 1} npm run demo`
  return `${error.name}: ${error.message}`
}

main().catch(fail)
