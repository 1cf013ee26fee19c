import { setTimeout as sleep } from "node:timers/promises"
import { type FaultyNetwork, startFaultyNetwork } from "../spec/support/faulty-network"
import { auditBooks, auditPool, auditResources, auditUnknowns, type Books } from "./audit"
import type { BankState } from "./bank"
import { runClient } from "./client"
import { CommitWatch } from "./commit-watch"
import type { SoakDatabase } from "./database"
import { HttpClient } from "./http-client"
import { runNemesis } from "./nemesis"
import { digestOf, planFaults } from "./plan"
import { RunRecord } from "./record"
import { type ServerProcess, startServer } from "./server-process"

const SETTLE_MS = 15_000

/** Bytes by which the heap may have grown since the tenth part of the run: caches of statements fill by and by. */
const HEAP_SLACK = 8 * 2 ** 20

export interface BankRunOptions {
  readonly seed: number
  readonly seconds: number
  readonly clients: number
  /** whether the application's maker is to ask what became of a COMMIT: PostgreSQL */
  readonly resolveCommits: boolean
}

export interface BankResult {
  readonly digest: string
  readonly record: RunRecord
  readonly books: Books
  readonly leaked: string[]
  /** bytes after garbage collection, at 10 %, 50 % and the end */
  readonly heap: readonly number[]
  readonly state: BankState
  /** COMMITs that were never answered */
  readonly unanswered: number
  /** 500s and unknown outcomes that should not be, in words */
  readonly wrongUnknowns: string[]
}

/** One database: load and faults for a while, then the books are compared with what the clients were told. */
export async function runBank(database: SoakDatabase, options: BankRunOptions): Promise<BankResult> {
  const watch = database.kind === "sqlite" ? undefined : new CommitWatch(database.kind)
  const network = watch && (await startFaultyNetwork(database.uri, watch.kind, watch.observe))
  const server = await startServer(network?.uri ?? database.uri, options.resolveCommits)
  try {
    const { record, heap } = await runLoad(database, network, server, options)
    const state = await settled(server)
    const books = await auditBooks(database, record)
    const leaked = await auditResources(database, state, books.acknowledged, books.ledgerRows)
    leaked.push(...(await auditPool((path) => server.get(path))))
    heap.push(await heapOf(server))
    const [first = 0, , last = 0] = heap
    if (last > first + HEAP_SLACK) leaked.push(`the heap has grown from ${first} to ${last} bytes`)
    const ending = await server.stop()
    if (ending !== undefined) leaked.push(ending)
    if (network && network.connections() > 0)
      leaked.push(`${network.connections()} connections outlive the application`)
    const unanswered = watch?.unanswered() ?? new Map<string, number>()
    const wrongUnknowns = auditUnknowns(state, record, unanswered)
    const digest = digestOf(database.kind, options.seed, options.seconds, options.clients)
    const count = [...unanswered.values()].reduce((sum, times) => sum + times, 0)
    return { digest, record, books, leaked, heap, state, unanswered: count, wrongUnknowns }
  } finally {
    server.kill()
    await network?.stop()
  }
}

/** @returns when every client has had its last answer */
async function runLoad(
  database: SoakDatabase,
  network: FaultyNetwork | undefined,
  server: ServerProcess,
  { seed, seconds, clients }: BankRunOptions,
): Promise<{ record: RunRecord; heap: number[] }> {
  const record = new RunRecord()
  const heap: number[] = []
  let isOver = false
  const gate = new Gate(clients)
  const mayGoOn = async () => {
    await gate.pass()
    return !isOver && server.failure() === undefined
  }
  const running = Array.from({ length: clients }, async (_, client) => {
    const http = new HttpClient(server.port)
    try {
      await runClient({ database: database.kind, seed, client, http, record, mayGoOn })
    } finally {
      http.close()
      gate.leave()
    }
  })
  const faults = planFaults(database.kind, seed, seconds)
  const nemesis = runNemesis(database, network, server.port, faults, record, () => isOver)
  const startedAt = performance.now()
  const reach = (part: number) => sleep(Math.max(0, part * seconds * 1000 - (performance.now() - startedAt)))
  try {
    for (const part of [0.1, 0.5]) {
      await reach(part)
      await gate.whileClosed(async () => {
        heap.push(await heapOf(server))
      })
    }
    await reach(1)
  } finally {
    isOver = true
    await Promise.all([...running, nemesis])
  }
  return { record, heap }
}

/** Sessions of clients that went away may still be at work. */
async function settled(server: ServerProcess): Promise<BankState> {
  const deadline = performance.now() + SETTLE_MS
  for (;;) {
    const failure = server.failure()
    if (failure !== undefined) throw new Error(failure)
    const state = await server.get<BankState>("/state")
    if (state.stats.open === 0 || performance.now() > deadline) return state
    await sleep(50)
  }
}

async function heapOf(server: ServerProcess): Promise<number> {
  const failure = server.failure()
  if (failure !== undefined) throw new Error(failure)
  const { heapUsed } = await server.get<{ heapUsed: number }>("/heap")
  return heapUsed
}

/** Stops all clients between two requests, so that what the heap holds is not what is under way. */
class Gate {
  #closed: Promise<void> | undefined
  #waiting = 0
  #onAllWait: (() => void) | undefined

  constructor(private clients: number) {}

  async pass(): Promise<void> {
    if (this.#closed === undefined) return
    this.#waiting++
    if (this.#waiting === this.clients) this.#onAllWait?.()
    await this.#closed
    this.#waiting--
  }

  leave(): void {
    this.clients--
    if (this.#waiting === this.clients) this.#onAllWait?.()
  }

  async whileClosed(work: () => Promise<void>): Promise<void> {
    let open = () => {}
    const allWait = new Promise<void>((resolve) => {
      this.#onAllWait = resolve
    })
    this.#closed = new Promise((resolve) => {
      open = resolve
    })
    try {
      if (this.clients > 0) await allWait
      await work()
    } finally {
      this.#closed = undefined
      this.#onAllWait = undefined
      open()
    }
  }
}
