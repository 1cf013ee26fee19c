import { once } from "node:events"
import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type Server } from "node:http"
import type Koa from "koa"

export interface RequestOptions {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  /** An object is sent as JSON, a string or buffer as it is. */
  readonly body?: unknown
}

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  json<T = unknown>(): T
}

/** A request under way. */
export interface StartedRequest {
  /**
   * The response once its head is here; rejects when the connection ends before. Nothing of the body is read until the
   * caller does, so the server meets backpressure.
   */
  readonly response: Promise<IncomingMessage>
  /** Reads the body to its end; rejects when the connection ends in the middle of it. */
  reply(): Promise<Reply>
  /** Destroys the socket, as a client that goes away does; `response` and `reply()` then reject. */
  destroy(): void
}

export interface Listening {
  readonly url: string
  readonly port: number
  readonly server: Server
  get(path: string, init?: RequestOptions): Promise<Reply>
  post(path: string, body?: unknown, init?: RequestOptions): Promise<Reply>
  head(path: string, init?: RequestOptions): Promise<Reply>
  /** Any method, `GET` where `init` names none. */
  send(path: string, init?: RequestOptions): Promise<Reply>
  /** Sends the request and returns at once. */
  startRequest(path: string, init?: RequestOptions): StartedRequest
  /** Ends all connections, also those in mid-request, and frees the port. */
  close(): Promise<void>
}

/** Serves an application on a free port of 127.0.0.1. Every request has a connection of its own. */
export async function listen(app: Koa): Promise<Listening> {
  const server = createServer(app.callback())
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("The server has no port.")
  const { port } = address

  const startRequest = (path: string, init: RequestOptions = {}) => start(port, path, init)
  const send = (path: string, init?: RequestOptions) => startRequest(path, init).reply()
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    server,
    startRequest,
    send,
    get: (path, init) => send(path, init),
    post: (path, body, init) => send(path, { ...init, method: "POST", body }),
    head: (path, init) => send(path, { ...init, method: "HEAD" }),
    async close() {
      const closed = once(server, "close")
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function start(port: number, path: string, init: RequestOptions): StartedRequest {
  const body = encode(init.body)
  const json = body !== undefined && typeof init.body !== "string" && !Buffer.isBuffer(init.body)
  const sent = request({
    host: "127.0.0.1",
    port,
    path,
    method: init.method ?? "GET",
    headers: {
      ...(json && { "content-type": "application/json" }),
      ...(body !== undefined && { "content-length": body.length }),
      ...init.headers,
    },
    // No keep-alive: a pooled socket would outlive the request that a spec is about.
    agent: false,
  })
  const response = new Promise<IncomingMessage>((resolve, reject) => {
    sent.once("response", resolve)
    sent.on("error", reject)
  })
  // A spec that destroys the request need not look at the promise.
  response.catch(() => {})
  sent.end(body)
  return {
    response,
    reply: async () => readReply(await response),
    destroy: () => sent.destroy(),
  }
}

function encode(body: unknown): Buffer | undefined {
  if (body === undefined) return undefined
  if (Buffer.isBuffer(body)) return body
  return Buffer.from(typeof body === "string" ? body : JSON.stringify(body))
}

/** Reads a response to its end; rejects when it is cut short. */
export async function readReply(response: IncomingMessage): Promise<Reply> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  const text = Buffer.concat(chunks).toString("utf8")
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text,
    json: <T>() => JSON.parse(text) as T,
  }
}
