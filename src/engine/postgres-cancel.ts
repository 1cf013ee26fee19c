import { isIP } from "node:net"

/** The part of pg's `Connection` that is used; read for this: pg 8.23.1 `lib/connection.js`, `lib/client.js` (`cancel`). */
interface WireConnection {
  readonly stream: { destroy(): void }
  connect(port: number | string, host?: string): void
  requestSsl(): void
  cancel(processId: number, secretKey: number): void
  on(event: "connect" | "sslconnect" | "end", listener: () => void): void
  on(event: "error", listener: (error: Error) => void): void
}

export type WireConnectionConstructor = new (options: {
  readonly ssl: unknown
  readonly sslNegotiation: string | undefined
}) => WireConnection

/** The part of a connected pg client that says which backend it talks to, and where. */
export interface Cancellable {
  readonly processID?: number | null
  readonly secretKey?: number | null
  readonly host?: string
  readonly port?: number
  readonly ssl?: unknown
  readonly sslNegotiation?: string
  readonly connection?: {
    readonly stream?: { readonly remoteAddress?: string; readonly remotePort?: number; destroy(): void }
  }
}

const TIMEOUT_MS = 2_000

/**
 * Asks the server of that very connection to stop what runs on it, by PostgreSQL's own cancel request: process id and secret key,
 * to the address that the connection itself has. Another server of the same name, a replica or a pooler in between cannot
 * take it for its own.
 * @returns when the server has passed it on, which it says by closing
 * @throws where the server cannot be reached in 2 s
 * @see PostgreSQL 18 manual, 54.2.9 "Canceling Requests in Progress"
 */
export function sendCancelRequest(Connection: WireConnectionConstructor, client: Cancellable): Promise<void> {
  const { processID, secretKey, host = "localhost", port = 5432 } = client
  if (processID == null || secretKey == null) return Promise.resolve()
  const { remoteAddress, remotePort } = client.connection?.stream ?? {}
  // A certificate is made out to the name, and the address alone says which of its servers it was.
  const ssl =
    client.ssl && typeof client.ssl === "object" && isIP(host) === 0 ? { servername: host, ...client.ssl } : client.ssl
  const wire = new Connection({ ssl: ssl ?? false, sslNegotiation: client.sslNegotiation })
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => over(new Error(`No answer to the cancel request in ${TIMEOUT_MS} ms.`)), TIMEOUT_MS)
    const over = (error?: Error) => {
      clearTimeout(timer)
      wire.stream.destroy()
      if (error) reject(error)
      else resolve()
    }
    const send = () => wire.cancel(processID, secretKey)
    wire.on("error", over)
    wire.on("end", () => over())
    if (client.ssl) {
      if (client.sslNegotiation !== "direct") wire.on("connect", () => wire.requestSsl())
      wire.on("sslconnect", send)
    } else wire.on("connect", send)
    if (host.startsWith("/")) wire.connect(`${host}/.s.PGSQL.${port}`)
    else wire.connect(remotePort ?? port, remoteAddress ?? host)
  })
}
