import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { onServersCore } from "./affinity"
import type { ServerAnswer, ServerQuestion, Usage } from "./servers/serve"

/** How to start one of `bench/servers/` or `bench/contenders/`. */
export interface ServerStart {
  /** absolute path of the compiled file */
  readonly script: string
  readonly uri: string
  readonly args?: readonly string[]
  readonly nodeOptions?: readonly string[]
}

/** One server in a process of its own; it ends with its parent at the latest. */
export interface ServerProcess {
  readonly port: number
  readonly pid: number
  usage(): Promise<Usage>
  /** Bytes of heap that each of that many open sessions keeps. It needs `--expose-gc`. */
  retainedBytes(sessions: number): Promise<number>
  /** Resolves when the process has ended. */
  stop(): Promise<void>
}

const START_MS = 20_000
const ANSWER_MS = 30_000

/** Compiled files of `bench/servers/`. */
export function serverScript(name: string): string {
  return join(__dirname, "servers", `${name}.js`)
}

/** Starts the server; resolves when it listens. @throws where it ends or says nothing before */
export async function startServer({ script, uri, args = [], nodeOptions = [] }: ServerStart): Promise<ServerProcess> {
  const [command, all] = onServersCore([...nodeOptions, script, uri, ...args])
  const child = spawn(command, all, {
    env: { ...process.env, NODE_ENV: "production" },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  })
  const conversation = new Conversation(child, script)
  const { port } = await conversation.next<{ port: number }>((answer) => "port" in answer, START_MS)
  return {
    port,
    pid: child.pid as number,
    async usage() {
      const { usage } = await conversation.ask<{ usage: Usage }>((id) => ({ id, ask: "usage" }))
      return usage
    },
    async retainedBytes(sessions) {
      const answer = await conversation.ask<{ retainedBytes: number }>((id) => ({ id, ask: "retained", sessions }))
      return answer.retainedBytes
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, "exit")
      child.send({ ask: "stop" } satisfies ServerQuestion)
      await ended
    },
  }
}

class Conversation {
  #lastId = 0
  #complaints = ""

  constructor(
    private readonly child: ChildProcess,
    private readonly name: string,
  ) {
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      this.#complaints = (this.#complaints + chunk).slice(-2000)
    })
  }

  ask<Answer>(question: (id: number) => ServerQuestion): Promise<Answer> {
    const id = ++this.#lastId
    this.child.send(question(id))
    return this.next<Answer>((answer) => "id" in answer && answer.id === id, ANSWER_MS)
  }

  next<Answer>(isMeant: (answer: ServerAnswer) => boolean, patienceMs: number): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(patience)
        this.child.off("message", heard)
        this.child.off("exit", ended)
      }
      const heard = (answer: ServerAnswer) => {
        if (!isMeant(answer)) return
        settle()
        resolve(answer as Answer)
      }
      const fail = (reason: string) => {
        settle()
        reject(new Error(`${this.name} ${reason}. ${this.#complaints}`))
      }
      const ended = (code: number | null) => fail(`ended with ${code}`)
      const patience = setTimeout(() => {
        this.child.kill("SIGKILL")
        fail(`did not answer within ${patienceMs} ms`)
      }, patienceMs)
      this.child.on("message", heard)
      this.child.once("exit", ended)
    })
  }
}
