import { once } from "node:events"
import { connect, type Socket } from "node:net"

const HEAD_END = Buffer.from("\r\n\r\n")
const CONTENT_LENGTH = /\r\ncontent-length: *(\d+)/i

/** Longest wait for an answer. */
const PATIENCE_MS = 15_000

/** The requests of one kind of work, ready to be sent; those of a kind differ in the row that they ask for. */
export type Requests = readonly Buffer[]

/** @param path for a number from 1 up */
export function prepareRequests(method: "GET" | "POST", path: (number: number) => string, numbers: number): Requests {
  // A fixed sequence, so that every round and every server is asked for the same rows.
  let state = 12_345
  return Array.from({ length: 1000 }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    const length = method === "POST" ? "Content-Length: 0\r\n" : ""
    return Buffer.from(
      `${method} ${path(1 + (state % numbers))} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n${length}\r\n`,
    )
  })
}

/** One keep-alive connection to 127.0.0.1 that has one request on its way at a time; cheap, and only for what the servers send. */
class Client {
  readonly #socket: Socket
  #rest: Buffer | undefined
  #answered: ((failure: string | undefined) => void) | undefined

  constructor(port: number) {
    this.#socket = connect({ port, host: "127.0.0.1", noDelay: true })
    this.#socket.on("data", (chunk) => this.#take(chunk))
    this.#socket.on("error", (error) => this.#settle(error.message))
    this.#socket.on("close", () => this.#settle("the server closed the connection"))
  }

  async ready(): Promise<void> {
    if (this.#socket.connecting) await once(this.#socket, "connect")
  }

  /** @param answered is called once, with what is wrong where the answer is no success */
  send(request: Buffer, answered: (failure: string | undefined) => void): void {
    this.#answered = answered
    this.#socket.write(request)
  }

  giveUp(): void {
    this.#settle(`no answer within ${PATIENCE_MS} ms`)
  }

  close(): void {
    this.#answered = undefined
    this.#socket.destroy()
  }

  #take(chunk: Buffer): void {
    const data = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk
    const headLength = data.indexOf(HEAD_END)
    const head = headLength < 0 ? "" : data.toString("latin1", 0, headLength)
    const bodyLength = CONTENT_LENGTH.exec(head)?.[1]
    if (headLength >= 0 && bodyLength === undefined) {
      this.#settle(`no Content-Length: ${head}`)
      return
    }
    if (headLength < 0 || data.length < headLength + 4 + Number(bodyLength)) {
      this.#rest = data
      return
    }
    this.#rest = undefined
    // "HTTP/1.1 2.."
    this.#settle(head[9] === "2" ? undefined : data.toString("latin1", 0, 500))
  }

  #settle(failure: string | undefined): void {
    const answered = this.#answered
    this.#answered = undefined
    answered?.(failure)
  }
}

/** Keeps that many connections busy from `start()` to `stop()`. */
export class Load {
  readonly #clients: Client[]
  #isStopping = false
  #sent = 0
  #failure: string | undefined
  #running: Promise<void>[] = []

  constructor(
    port: number,
    private readonly requests: Requests,
    connections: number,
  ) {
    this.#clients = Array.from({ length: connections }, () => new Client(port))
  }

  async start(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.ready()))
    this.#running = this.#clients.map((client) => this.#keepBusy(client))
  }

  /** Waits for the answers on their way. @throws where any answer was no success */
  async stop(): Promise<void> {
    this.#isStopping = true
    const patience = setTimeout(() => {
      for (const client of this.#clients) client.giveUp()
    }, PATIENCE_MS)
    await Promise.all(this.#running)
    clearTimeout(patience)
    for (const client of this.#clients) client.close()
    if (this.#failure !== undefined) throw new Error(`A request failed: ${this.#failure}`)
  }

  #keepBusy(client: Client): Promise<void> {
    return new Promise((resolve) => {
      const next = (failure?: string) => {
        this.#failure ??= failure
        if (this.#isStopping || this.#failure !== undefined) resolve()
        else client.send(this.requests[this.#sent++ % this.requests.length] as Buffer, next)
      }
      next()
    })
  }
}

/** Sends requests one after another on one connection. @returns ms that each took to be answered */
export async function timeRequests(port: number, requests: Requests, count: number): Promise<number[]> {
  const client = new Client(port)
  try {
    await client.ready()
    const times: number[] = []
    for (let sent = 0; sent < count; sent++) {
      const startedAt = performance.now()
      const patience = setTimeout(() => client.giveUp(), PATIENCE_MS)
      const failure = await new Promise<string | undefined>((resolve) => {
        client.send(requests[sent % requests.length] as Buffer, resolve)
      })
      clearTimeout(patience)
      if (failure !== undefined) throw new Error(`A request failed: ${failure}`)
      times.push(performance.now() - startedAt)
    }
    return times
  } finally {
    client.close()
  }
}
