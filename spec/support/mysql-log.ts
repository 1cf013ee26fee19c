import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"
import { type StatementLog, splitStatements, verbOf } from "./statement-log"

export interface MysqlLog extends StatementLog {
  /** The target's URI with the proxy's address in it. */
  readonly uri: string
  /** Destroys all connections and closes the port. */
  stop(): Promise<void>
}

const COM_QUERY = 3

/** Starts a proxy in front of MySQL that records the text statements that clients send. Understands no TLS and no compression. */
export async function startMysqlLog(targetUri: string): Promise<MysqlLog> {
  const target = new URL(targetUri)
  const open = new Set<Socket>()
  let recorded: string[] = []

  const server = createServer((client) => {
    const upstream = connect({ host: target.hostname, port: Number(target.port || 3306), noDelay: true })
    client.setNoDelay(true)
    const read = readStatements((sql) => recorded.push(...splitStatements(sql)))
    client.on("data", (chunk) => {
      read(chunk)
      upstream.write(chunk)
    })
    upstream.on("data", (chunk) => client.write(chunk))
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(one)
      one.on("error", () => other.destroy())
      one.on("close", () => {
        open.delete(one)
        other.destroy()
      })
    }
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("The proxy has no port.")
  const uri = new URL(targetUri)
  uri.host = `127.0.0.1:${address.port}`

  return {
    uri: uri.href,
    statements: () => [...recorded],
    verbs: () => recorded.map(verbOf),
    clear() {
      recorded = []
    },
    async stop() {
      const closed = once(server, "close")
      server.close()
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}

/**
 * Cuts what a client sends into packets; those that begin a command have the sequence number 0.
 * @see MySQL Internals, "MySQL Packets" and "COM_QUERY"
 */
export function readStatements(found: (sql: string) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  return (chunk) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 4 && rest.length >= 4 + rest.readUIntLE(0, 3)) {
      const end = 4 + rest.readUIntLE(0, 3)
      if (rest[3] === 0 && rest[4] === COM_QUERY) found(rest.toString("utf8", 5, end))
      rest = rest.subarray(end)
    }
  }
}
