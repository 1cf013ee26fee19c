import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"

export type ProxyQuestion = "writes" | "stop"

/** The delaying proxy in a process of its own, so that it does not wait for the load's turn of the event loop. */
export interface ProxyProcess {
  /** the target's URI with the proxy's address in it */
  readonly uri: string
  /** as `DelayingProxy.takeWrites()` */
  takeWrites(): Promise<string[]>
  stop(): Promise<void>
}

export async function startProxy(targetUri: string, delayMs: number): Promise<ProxyProcess> {
  const child = fork(join(__dirname, "proxy-main.js"), [targetUri, String(delayMs)], { execArgv: [] })
  const port = await answer<number>(child)
  const uri = new URL(targetUri)
  uri.host = `127.0.0.1:${port}`
  return {
    uri: uri.href,
    takeWrites() {
      child.send("writes" satisfies ProxyQuestion)
      return answer<string[]>(child)
    },
    async stop() {
      const ended = once(child, "exit")
      child.send("stop" satisfies ProxyQuestion)
      await ended
    },
  }
}

async function answer<T>(child: ChildProcess): Promise<T> {
  const ended = new AbortController()
  try {
    const signal = ended.signal
    const result = await Promise.race([
      once(child, "message", { signal }),
      once(child, "exit", { signal }).then(([code]) => {
        throw new Error(`The proxy ended with ${code}.`)
      }),
    ])
    return result[0] as T
  } finally {
    ended.abort()
  }
}
