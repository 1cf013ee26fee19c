import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { type IncomingMessage, request } from "node:http"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

const STOP_MS = 15_000
const ANSWER_MS = 10_000

/** What the application is told when it is to start. */
export interface ServerOrder {
  readonly uri: string
  readonly resolveCommits: boolean
}

/** The application in a process of its own. */
export interface ServerProcess {
  readonly port: number
  /** `undefined` while it runs; says how it ended where it did without being asked */
  failure(): string | undefined
  /** A request on a connection of its own, apart from the clients'. @throws where the answer is not 200 */
  get<T>(path: string): Promise<T>
  /** Ends it at once; does nothing where it has ended. */
  kill(): void
  /** Asks it to end. @returns what is wrong with how it ended, `undefined` where nothing is */
  stop(): Promise<string | undefined>
}

export async function startServer(uri: string, resolveCommits = false): Promise<ServerProcess> {
  const child = fork(join(__dirname, "server.js"), {
    execArgv: ["--expose-gc", "--enable-source-maps", "--throw-deprecation"],
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  })
  let complaints = ""
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    complaints = (complaints + chunk).slice(-2000)
  })
  let isStopping = false
  const failure = () =>
    isStopping || (child.exitCode === null && child.signalCode === null)
      ? undefined
      : `the application ended with ${child.exitCode ?? child.signalCode}: ${complaints}`
  child.send({ uri, resolveCommits } satisfies ServerOrder)
  const [answer] = await Promise.race([
    once(child, "message") as Promise<[{ port: number }]>,
    once(child, "exit").then(() => {
      throw new Error(failure())
    }),
  ])
  const { port } = answer
  return {
    port,
    failure,
    get: (path) => getJson(port, path),
    kill: () => void child.kill("SIGKILL"),
    async stop() {
      const failed = failure()
      if (failed !== undefined) return failed
      isStopping = true
      return stop(child)
    },
  }
}

async function stop(child: ChildProcess): Promise<string | undefined> {
  const ended = once(child, "exit")
  child.send("stop")
  const patience = new AbortController()
  const result = await Promise.race([
    ended,
    sleep(STOP_MS, undefined, { signal: patience.signal }).catch(() => undefined),
  ])
  patience.abort()
  if (result === undefined) {
    child.kill("SIGKILL")
    await ended
    return `the application did not end by itself within ${STOP_MS} ms`
  }
  const [code] = result as [number | null]
  return code === 0 ? undefined : `the application ended with code ${code} when it was asked to stop`
}

async function getJson<T>(port: number, path: string): Promise<T> {
  const signal = AbortSignal.timeout(ANSWER_MS)
  const sent = request({ host: "127.0.0.1", port, path, agent: false, signal }).end()
  const [response] = (await once(sent, "response")) as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  const text = Buffer.concat(chunks).toString("utf8")
  if (response.statusCode !== 200) throw new Error(`GET ${path} was answered ${response.statusCode}: ${text}`)
  return JSON.parse(text) as T
}
