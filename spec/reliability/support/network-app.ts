import type { TestDatabase } from "../../support/databases"
import { type FaultyNetwork, startFaultyNetwork } from "../../support/faulty-network"
import type { Reply } from "../../support/http"
import { type SessionApp, type SessionAppOptions, startSessionApp } from "../../support/session-app"
import { eventually } from "./eventually"
import { within } from "./within"

export interface NetworkAppOptions extends SessionAppOptions {
  /** parameters of the URI, such as `query_timeout=400` */
  readonly query?: string
}

/** An application whose database is behind a network that fails as a spec says. Its `rows()` and `database` are not. */
export interface NetworkApp extends SessionApp {
  readonly network: FaultyNetwork
  /** Sends a request that must be answered in time. */
  ask(
    method: "GET" | "POST",
    path: string,
    withinMs: number,
  ): Promise<{ readonly reply: Reply; readonly tookMs: number }>
  /** @param hasPassed of the spec: what one that failed left open is no failure of its own */
  end(hasPassed: boolean): Promise<void>
}

export async function startNetworkApp(database: TestDatabase, options: NetworkAppOptions = {}): Promise<NetworkApp> {
  const { query = "", ...others } = options
  const created = await database.createDatabase()
  const network = await startFaultyNetwork(created.uri, database.kind)
  const uri = new URL(network.uri)
  for (const [name, value] of new URLSearchParams(query)) uri.searchParams.set(name, value)
  const behindNetwork = { ...database, createDatabase: async () => ({ ...created, uri: uri.href }) }
  const server = await startSessionApp(behindNetwork, { watchWire: false, ...others })
  network.clear()
  return Object.assign(server, {
    network,
    async ask(method: "GET" | "POST", path: string, withinMs: number) {
      const { value, tookMs } = await within(withinMs, `${method} ${path}`, server.http.send(path, { method }))
      return { reply: value, tookMs }
    },
    async end(hasPassed: boolean) {
      network.on(/^/, "cut before", 0)
      network.setDelay(0)
      network.admit()
      network.resume()
      if (!hasPassed) network.cut()
      try {
        await server.stop()
      } catch (error) {
        if (hasPassed) throw error
      } finally {
        await network.stop()
      }
    },
  })
}

/** Every session has ended, and with it its place in the pool has come back. */
export async function expectNothingHeld(server: SessionApp, withinMs = 1_000): Promise<void> {
  const isFree = () => {
    const { open, active, waiting } = server.maker.stats()
    return open === 0 && active === 0 && waiting === 0
  }
  await eventually(`nothing is held: ${JSON.stringify(server.maker.stats())}`, isFree, withinMs)
}
