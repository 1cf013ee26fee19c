import { Container } from "typedi"
import { SessionMaker, type SessionMakerOptions } from "../../../src/session/session-maker"
import type { TestDatabase } from "../../support/databases"
import { type FaultyNetwork, startFaultyNetwork } from "../../support/faulty-network"
import type { Reply } from "../../support/http"
import { type SessionApp, type SessionAppOptions, startSessionApp } from "../../support/session-app"
import { eventually } from "./eventually"
import { within } from "./within"

export interface NetworkAppOptions extends SessionAppOptions {
  /** parameters of the URI, such as `query_timeout=400` */
  readonly query?: string
  /** the same server at a second address, where `readOnly` sessions go; default false */
  readonly hasReplica?: boolean
}

/** An application whose database is behind a network that fails as a spec says. Its `rows()` and `database` are not. */
export interface NetworkApp extends SessionApp {
  readonly network: FaultyNetwork
  readonly replica: FaultyNetwork | undefined
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
  const { query = "", hasReplica = false, ...others } = options
  const created = await database.createDatabase()
  const network = await startFaultyNetwork(created.uri, database.kind)
  const uri = new URL(network.uri)
  for (const [name, value] of new URLSearchParams(query)) uri.searchParams.set(name, value)
  const behindNetwork = { ...database, createDatabase: async () => ({ ...created, uri: uri.href }) }
  const replica = hasReplica ? await startFaultyNetwork(created.uri, database.kind) : undefined
  const server = await startSessionApp(behindNetwork, {
    watchWire: false,
    ...others,
    maker: { ...others.maker, ...(replica && replicationOf(network, replica)) },
  })
  network.clear()
  return Object.assign(server, {
    network,
    replica,
    async ask(method: "GET" | "POST", path: string, withinMs: number) {
      const { value, tookMs } = await within(withinMs, `${method} ${path}`, server.http.send(path, { method }))
      return { reply: value, tookMs }
    },
    async end(hasPassed: boolean) {
      for (const one of [network, ...(replica ? [replica] : [])]) {
        one.on(/^/, "cut before", 0)
        one.setDelay(0)
        one.resume()
        if (hasPassed) one.admit()
        else {
          one.refuse()
          one.cut()
        }
      }
      try {
        await within(5_000, "the application stops", server.stop())
      } catch (error) {
        if (hasPassed) throw error
        // Where sessions cannot be ended, stop() does not come to these. The maker is taken out without its destroy(), for
        // which the next spec would wait.
        Container.set({ id: SessionMaker, value: undefined })
        Container.remove(SessionMaker)
        await created.drop()
      } finally {
        await Promise.all([network.stop(), replica?.stop()])
      }
    },
  })
}

function replicationOf(primary: FaultyNetwork, replica: FaultyNetwork): SessionMakerOptions {
  const accountAt = ({ uri, port }: FaultyNetwork) => {
    const { hostname: host, username, password, pathname } = new URL(uri)
    return { host, port, username, ...(password !== "" && { password }), database: pathname.slice(1) }
  }
  return { replication: { master: accountAt(primary), slaves: [accountAt(replica)] } } as SessionMakerOptions
}

/** Every session has ended, and with it its place in the pool has come back. */
export async function expectNothingHeld(server: SessionApp, withinMs = 1_000): Promise<void> {
  const isFree = () => {
    const { open, active, waiting } = server.maker.stats()
    return open === 0 && active === 0 && waiting === 0
  }
  await eventually(`nothing is held: ${JSON.stringify(server.maker.stats())}`, isFree, withinMs)
}
