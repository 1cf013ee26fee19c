import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import type { RestartMessage, ServerMessage } from "../spec/support/embedded-postgres-server"

/** A PostgreSQL server of the run's own, which may be ended and started again. */
export interface PostgresServer {
  readonly uri: string
  /** Resolves when it accepts connections again. */
  restart(signal: RestartMessage["restart"]): Promise<void>
  stop(): Promise<void>
}

export async function startPostgresServer(): Promise<PostgresServer> {
  const child = fork(join(__dirname, "..", "spec", "support", "embedded-postgres-server.js"), {
    detached: true,
    execArgv: [],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  })
  const uri = await answerOf(child)
  return {
    uri,
    async restart(signal) {
      child.send({ restart: signal } satisfies RestartMessage)
      await answerOf(child)
    },
    async stop() {
      const ended = once(child, "exit")
      child.disconnect()
      await ended
    },
  }
}

async function answerOf(child: ChildProcess): Promise<string> {
  const answer = await new Promise<ServerMessage>((resolve) => {
    const settle = (message: ServerMessage) => {
      child.off("message", settle)
      child.off("exit", ended)
      resolve(message)
    }
    const ended = (code: number | null) => settle({ failure: `its process ended with code ${code}` })
    child.on("message", settle)
    child.on("exit", ended)
  })
  if ("failure" in answer) throw new Error(`PostgreSQL did not start: ${answer.failure}`)
  return answer.uri
}
