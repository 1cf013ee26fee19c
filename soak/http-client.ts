import { Agent, type IncomingMessage, request } from "node:http"

/** Longest wait for an answer; whoever is not answered by then is counted as such. */
const PATIENCE_MS = 15_000

/** What a client knows of a request when it is over. */
export type Answer =
  | { readonly status: number; readonly text: string; readonly hasRetryAfter: boolean }
  /** the client went away itself */
  | { readonly aborted: true }
  /** the connection ended, or nothing came, though the client stayed */
  | { readonly failure: string }

export interface Ask {
  readonly method: "GET" | "POST"
  readonly path: string
  readonly body?: unknown
  readonly abortAfterMs?: number | undefined
}

/** One client: it has one connection to 127.0.0.1, kept open, and sends one request after another. */
export class HttpClient {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor(private readonly port: number) {}

  ask({ method, path, body, abortAfterMs }: Ask): Promise<Answer> {
    return new Promise((resolve) => {
      const text = body === undefined ? undefined : JSON.stringify(body)
      const headers =
        text === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }
      const sent = request({ host: "127.0.0.1", port: this.port, path, method, headers, agent: this.#agent })
      const settle = (answer: Answer) => {
        clearTimeout(patience)
        clearTimeout(leaving)
        resolve(answer)
      }
      const goAway = (answer: Answer) => {
        settle(answer)
        sent.destroy()
      }
      const patience = setTimeout(() => goAway({ failure: `no answer within ${PATIENCE_MS} ms` }), PATIENCE_MS)
      const leaving = abortAfterMs === undefined ? undefined : setTimeout(() => goAway({ aborted: true }), abortAfterMs)
      const failed = (error: Error) => settle({ failure: error.message })
      sent.once("response", (response) => readAnswer(response).then(settle, failed))
      sent.on("error", failed)
      sent.end(text)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}

async function readAnswer(response: IncomingMessage): Promise<Answer> {
  let text = ""
  response.setEncoding("utf8")
  for await (const chunk of response) text += chunk
  return { status: response.statusCode ?? 0, text, hasRetryAfter: response.headers["retry-after"] !== undefined }
}
