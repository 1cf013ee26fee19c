import { mkdirSync } from "node:fs"
import { createServer } from "node:http"
import { join } from "node:path"
import { SessionMaker } from "routing-controllers-typeorm"
import { Container } from "typedi"
import { createApp } from "./app"
import { seed } from "./seed"

const DATA_FOLDER = join(__dirname, "..", "..", "demo", "data")

async function main(): Promise<void> {
  if (!process.env.DATABASE_URI) {
    mkdirSync(DATA_FOLDER, { recursive: true })
    process.env.DATABASE_URI = `sqlite:///${join(DATA_FOLDER, "demo.db")}`
  }
  const maker = new SessionMaker()
  Container.set(SessionMaker, maker)
  const app = createApp()
  const user = await seed(maker)
  const port = Number(process.env.PORT || 3000)
  const server = createServer(app.callback())
  server.once("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EADDRINUSE") throw error
    fail(`Port ${port} is taken. Choose another one: PORT=${port + 1} npm run demo`)
  })
  server.listen(port, () => {
    const { databaseUri } = maker
    console.log(instructions(`http://localhost:${port}`, user.id, databaseUri))
  })
  const stop = () => {
    console.log("Stopping: requests in flight are finished first.")
    server.close(() => {
      void maker.close().then(() => console.log("Stopped."))
    })
    server.closeIdleConnections()
  }
  process.once("SIGINT", stop)
  process.once("SIGTERM", stop)
}

function instructions(url: string, userId: string, databaseUri: string | undefined): string {
  return `
Listening on ${url}

Try:
  curl ${url}/${userId}                                      # a name
  curl ${url}/                                                                          # a page of users
  curl -X POST ${url}/ -H 'Content-Type: application/json' -d '{"name":"Barbara"}'      # a new one
  curl -X DELETE ${url}/${userId} -i                         # 204
  curl -i ${url}/00000000-0000-4000-8000-000000000000                                   # 404
  curl -i ${url}/not-a-guid                                                             # 400

${databaseUri ?? "The database is the one of DATABASE_URI; SQLite in demo/data/ where it is unset."}
The same on PostgreSQL:  DATABASE_URI=postgres://user:password@localhost/database npm run demo
`
}

function fail(message: string): void {
  console.error(message)
  process.exitCode = 1
}

main().catch((error: unknown) => fail(error instanceof Error ? `${error.name}: ${error.message}` : String(error)))
