import { setTimeout as sleep } from "node:timers/promises"
import type { Fate, FaultyNetwork } from "../spec/support/faulty-network"
import { NO_TRANSFER, POOL_SIZE } from "./bank"
import type { SoakDatabase } from "./database"
import { HttpClient } from "./http-client"
import type { PlannedFault } from "./plan"
import type { RunRecord } from "./record"

const VICTIM_MS = 1_000

/** COMMITs that one fault meets; the application has 8 connections. */
const MOST_COMMITS = 4

/** How often whoever ended may be looked for. */
const STEP_MS = 10

/**
 * Injects the planned faults, each at its time, or as soon as the one before it is over. A fault that finds nothing to do
 * harm to is not counted.
 */
export async function runNemesis(
  database: SoakDatabase,
  network: FaultyNetwork | undefined,
  port: number,
  faults: readonly PlannedFault[],
  record: RunRecord,
  isOver: () => boolean,
): Promise<void> {
  const startedAt = performance.now()
  for (const fault of faults) {
    await sleep(Math.max(0, fault.atMs - (performance.now() - startedAt)))
    if (isOver()) return
    try {
      record.countFault(fault.kind, await inject(database, network, port, fault, record))
    } catch (error) {
      record.complain(`the fault "${fault.kind}" could not be injected: ${String(error)}`)
    }
  }
}

/** @returns how many times */
async function inject(
  database: SoakDatabase,
  network: FaultyNetwork | undefined,
  port: number,
  { kind, choice, lastsMs }: PlannedFault,
  record: RunRecord,
): Promise<number> {
  switch (kind) {
    case "kill a backend":
      return untilSome(() => database.kill(choice))
    case "kill all backends":
      return untilSome(() => database.kill(undefined))
    case "cancel a statement":
      return untilSome(() => database.cancel(choice))
    case "lock accounts":
      return database.lock(choice, lastsMs)
    case "exhaust the pool":
      await exhaust(port, lastsMs, record)
      return 1
    case "restart the server":
      await database.restart?.("SIGINT")
      return 1
    case "crash the server":
      await database.restart?.("SIGQUIT")
      return 1
    default:
      return network ? injectIntoNetwork(network, kind, choice, lastsMs) : 0
  }
}

const FATES: Readonly<Record<"cut answers to COMMIT" | "lose answers to COMMIT" | "cut before COMMIT", Fate>> = {
  "cut answers to COMMIT": "cut answer",
  "lose answers to COMMIT": "lose answer",
  "cut before COMMIT": "cut before",
}

async function injectIntoNetwork(
  network: FaultyNetwork,
  kind: "silence" | "abandon connections" | keyof typeof FATES,
  choice: number,
  lastsMs: number,
): Promise<number> {
  // What was recorded of the statements is of no use here, and would fill the memory.
  network.clear()
  if (kind === "abandon connections") return network.abandon("all", lastsMs)
  if (kind === "silence") {
    network.silence()
    await sleep(lastsMs)
    network.resume()
    return 1
  }
  const times = 1 + Math.floor(choice * MOST_COMMITS)
  network.on(/^COMMIT\b/i, FATES[kind], times)
  const deadline = performance.now() + VICTIM_MS
  while (network.pendingFates() > 0 && performance.now() < deadline) await sleep(STEP_MS)
  const hit = times - network.pendingFates()
  network.on(/^$/, "cut before", 0)
  if (kind === "lose answers to COMMIT") network.abandon("silent", lastsMs)
  return hit
}

/** The pool may be empty at first, and between two statements nothing runs. */
async function untilSome(attempt: () => Promise<number>): Promise<number> {
  const deadline = performance.now() + VICTIM_MS
  for (;;) {
    const hit = await attempt()
    if (hit > 0 || performance.now() > deadline) return hit
    await sleep(STEP_MS)
  }
}

/** Half of the requests begin as writers, which on SQLite take turns; every third client goes away before it is answered. */
async function exhaust(port: number, lastsMs: number, record: RunRecord): Promise<void> {
  await Promise.all(
    Array.from({ length: 3 * POOL_SIZE }, async (_, index) => {
      const http = new HttpClient(port)
      try {
        const answer = await http.ask({
          method: index % 2 === 0 ? "GET" : "POST",
          path: `/slow?ms=${lastsMs}`,
          abortAfterMs: index % 3 === 0 ? lastsMs / 2 : undefined,
        })
        // Its COMMIT may have met a connection that is abandoned.
        if ("status" in answer && answer.status === 500) record.unexplained.push(NO_TRANSFER)
        else if ("failure" in answer) record.complain(`slow: ${answer.failure}`)
        else if ("status" in answer && answer.status !== 200 && answer.status !== 503) {
          record.complain(`slow: answered ${answer.status} ${answer.text.slice(0, 200)}`)
        }
      } finally {
        http.close()
      }
    }),
  )
}
