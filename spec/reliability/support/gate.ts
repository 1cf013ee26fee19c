import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"

/** A port in front of a server, behind which the server seems down until it is opened. */
export interface Gate {
  /** the target's URI with the gate's address in it */
  readonly uri: string
  /** Listens: connections go through. */
  open(): Promise<void>
  /**
   * Loses the connections that are open now without a word to the client, as a firewall or a failover does: each is cut when
   * it is used next. New ones go through.
   */
  strand(): void
  /** Cuts all connections and refuses new ones, as a machine without the server does. */
  shut(): Promise<void>
}

/** Shut at the start. */
export async function createGate(targetUri: string, defaultPort: number): Promise<Gate> {
  const target = new URL(targetUri)
  const sockets = new Set<Socket>()
  const pairs = new Map<Socket, Socket>()
  const probe = createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, "close")

  let server: Server | undefined
  const uri = new URL(targetUri)
  uri.host = `127.0.0.1:${port}`
  return {
    uri: uri.href,
    async open() {
      server = createServer((client) => {
        const upstream = connect({ host: target.hostname, port: Number(target.port || defaultPort) })
        pairs.set(client, upstream)
        const forget = () => {
          pairs.delete(client)
          client.destroy()
          upstream.destroy()
        }
        for (const one of [client, upstream]) {
          sockets.add(one)
          one.on("error", forget)
          one.on("close", () => {
            sockets.delete(one)
            if (pairs.has(client)) forget()
          })
        }
        client.pipe(upstream)
        upstream.pipe(client)
      }).listen(port, "127.0.0.1")
      await once(server, "listening")
    },
    strand() {
      for (const [client, upstream] of pairs) {
        pairs.delete(client)
        client.unpipe(upstream)
        upstream.unpipe(client)
        upstream.destroy()
        client.once("data", () => client.destroy()).resume()
      }
    },
    async shut() {
      if (server === undefined) return
      const closed = once(server, "close")
      server.close()
      for (const socket of sockets) socket.destroy()
      server = undefined
      await closed
    },
  }
}
