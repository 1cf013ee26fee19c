/**
 * Serves requests to the sixty services, then collects garbage and counts what is left of them:
 *
 *     node --expose-gc dist/bench/services/leak.js [requests]
 *
 * Ends with 1 where a controller, container, service or session of an ended request is still there.
 */
import { createServer, request } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import Koa from "koa"
import { useContainer } from "routing-controllers"
import { RequestContainer, SessionMaker, useKoaServer } from "routing-controllers-typeorm"
import { Container, ContainerInstance } from "typedi"
import { Analytics, type Member, observer, Visit, VisitController } from "./sixty-services"

const requests = Number(process.argv[2] ?? 100_000)
const PARALLEL = 50
/** Every how many requests a statement is sent through each session; the others only build. */
const STATEMENTS_EVERY = 50

const collect = (globalThis as { gc?: () => void }).gc
if (!collect) throw new Error("Start it with --expose-gc.")

/** Weak references to all that a request is made of, without holding as many of them as there are requests. */
class Watched {
  readonly counts = new Map<string, number>()
  readonly #alive = new Map<string, Set<WeakRef<object>>>()
  readonly #registry = new FinalizationRegistry<[string, WeakRef<object>]>(([kind, reference]) =>
    this.#alive.get(kind)?.delete(reference),
  )

  add(kind: string, one: object): void {
    const reference = new WeakRef(one)
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
    this.#registry.register(one, [kind, reference])
    const alive = this.#alive.get(kind) ?? new Set()
    this.#alive.set(kind, alive.add(reference))
  }

  left(kind: string): number {
    return [...(this.#alive.get(kind) ?? [])].filter((reference) => reference.deref() !== undefined).length
  }
}

async function main(): Promise<boolean> {
  const watched = new Watched()
  observer.onRequest = (_marker, members) => {
    for (const member of members) watched.add("service", member)
    for (const session of new Set(members.map((member: Member) => member.session))) watched.add("session", session)
  }
  class WatchedContainer extends RequestContainer {
    override get<T>(...given: Parameters<RequestContainer["get"]>): T {
      const controller = super.get(...given) as T & object
      if (given[1]) watched.add("controller", controller)
      const container = (controller as { roots?: { container?: unknown } }).roots?.container
      if (container instanceof ContainerInstance) watched.add("container", container)
      return controller
    }
  }
  useContainer(new WatchedContainer())
  const makers = [SessionMaker, Analytics].map((id) => {
    const maker = new SessionMaker("sqlite://", { entities: [Visit], synchronize: true })
    Container.set({ id, value: maker })
    return maker
  })
  const server = createServer(useKoaServer(new Koa(), { controllers: [VisitController] }).callback())
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo

  const startedAt = performance.now()
  let next = 0
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      while (next < requests) {
        const marker = next++
        const body = await ask(port, `/visits?marker=${marker}&statements=${marker % STATEMENTS_EVERY === 0 ? 1 : 0}`)
        if (!/^\{"services":60,"foreign":0(,"strange":0)?\}$/.test(body)) throw new Error(`unexpected answer: ${body}`)
      }
    }),
  )
  const seconds = (performance.now() - startedAt) / 1000
  server.close()
  server.closeAllConnections()
  for (let round = 0; round < 5; round++) {
    await sleep(20)
    collect?.()
  }
  console.log(`${requests} requests in ${seconds.toFixed(1)} s, ${PARALLEL} at a time; Node ${process.version}`)
  let isClean = true
  for (const [kind, count] of watched.counts) {
    const left = watched.left(kind)
    if (left > 0) isClean = false
    console.log(`${kind}: ${count} made, ${left} left`)
  }
  const open = makers.map((maker) => maker.stats().open)
  console.log(`open sessions: ${open.join(" and ")}; heap ${Math.round(process.memoryUsage().heapUsed / 1e6)} MB`)
  await Promise.all(makers.map((maker) => maker.close()))
  return isClean && watched.counts.size === 4 && open.every((count) => count === 0)
}

function ask(port: number, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      let text = ""
      response.on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resolve(text))
    })
    sent.on("error", reject)
    sent.end()
  })
}

main().then(
  (isClean) => {
    process.exitCode = isClean ? 0 : 1
  },
  (error: unknown) => {
    console.error(error)
    process.exitCode = 1
  },
)
