import { createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"

/** What a server of the bench tells its parent. `id` is that of the question. */
export type ServerAnswer =
  | { readonly port: number }
  | { readonly id: number; readonly usage: Usage }
  | { readonly id: number; readonly retainedBytes: number }

export type ServerQuestion =
  | { readonly id: number; readonly ask: "usage" }
  | { readonly id: number; readonly ask: "retained"; readonly sessions: number }
  | { readonly ask: "stop" }

/** Read in one go, so that differences of two belong together. */
export interface Usage {
  /** µs of all threads of the process, in user and system mode */
  readonly cpuMicros: number
  readonly requests: number
  readonly atMs: number
}

/** Opens that many sessions and keeps them. */
type OpenSessions = (count: number) => Promise<unknown>

/** Listens on a free port, and answers the parent's questions until it says stop or goes away. */
export function serve(listener: RequestListener, openSessions?: OpenSessions): void {
  let requests = 0
  const server = createServer(listener)
  server.on("request", () => {
    requests++
  })
  const usage = (): Usage => {
    const { user, system } = process.cpuUsage()
    return { cpuMicros: user + system, requests, atMs: performance.now() }
  }
  process.on("message", (question: ServerQuestion) => {
    if (question.ask === "stop") process.exit()
    else if (question.ask === "usage") tell({ id: question.id, usage: usage() })
    else if (openSessions) void answerRetained(question.id, question.sessions, openSessions)
  })
  process.once("disconnect", () => process.exit())
  server.listen(0, "127.0.0.1", () => tell({ port: (server.address() as AddressInfo).port }))
}

async function answerRetained(id: number, count: number, openSessions: OpenSessions): Promise<void> {
  // What is loaded or compiled at the first use is not the sessions'.
  const first = await openSessions(100)
  const before = heapUsed()
  const kept = await openSessions(count)
  const retainedBytes = (heapUsed() - before) / count
  tell({ id, retainedBytes })
  // Referred to until here, so that they are counted.
  if (first === kept) throw new Error("The sessions must be new ones.")
}

function heapUsed(): number {
  if (globalThis.gc === undefined) throw new Error("Start this server with --expose-gc.")
  for (let times = 0; times < 3; times++) globalThis.gc()
  return process.memoryUsage().heapUsed
}

function tell(answer: ServerAnswer): void {
  process.send?.(answer)
}
