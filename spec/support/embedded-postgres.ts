import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import type { ServerMessage } from "./embedded-postgres-server"

let child: ChildProcess | undefined
let starting: Promise<string> | undefined

/** URI of a real PostgreSQL server, started at the first call and shared by the whole run. */
export function embeddedPostgresUri(): Promise<string> {
  starting ??= start().catch((error: unknown) => {
    starting = undefined
    throw error
  })
  return starting
}

/** Stops the server and removes its data; does nothing if none was started. */
export async function stopEmbeddedPostgres(): Promise<void> {
  await starting?.catch(() => {})
  const running = child
  child = undefined
  starting = undefined
  if (running === undefined || running.exitCode !== null) return
  running.ref()
  const ended = once(running, "exit")
  running.disconnect()
  await ended
}

async function start(): Promise<string> {
  // A process of its own: it sees its channel close however this one ends, SIGKILL included, and then cleans up.
  const server = fork(join(__dirname, "embedded-postgres-server.js"), {
    detached: true,
    execArgv: [],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  })
  child = server
  const answer = await new Promise<ServerMessage>((resolve) => {
    server.once("message", (message) => resolve(message as ServerMessage))
    server.once("error", (error) => resolve({ failure: error.message }))
    server.once("exit", (code) => resolve({ failure: `its process ended with code ${code}` }))
  })
  if ("failure" in answer) throw new Error(`embedded-postgres did not start: ${answer.failure}`)
  // A spec run must be able to end by itself, even if nobody calls stop.
  server.unref()
  server.channel?.unref()
  return answer.uri
}
