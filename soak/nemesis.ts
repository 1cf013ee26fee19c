import { setTimeout as sleep } from "node:timers/promises"
import { POOL_SIZE } from "./bank"
import type { SoakDatabase } from "./database"
import { HttpClient } from "./http-client"
import type { PlannedFault } from "./plan"
import type { RunRecord } from "./record"

const VICTIM_MS = 1_000

/**
 * Injects the planned faults, each at its time, or as soon as the one before it is over. A fault that finds nothing to do
 * harm to is not counted.
 */
export async function runNemesis(
  database: SoakDatabase,
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
      record.countFault(fault.kind, await inject(database, port, fault, record))
    } catch (error) {
      record.complain(`the fault "${fault.kind}" could not be injected: ${String(error)}`)
    }
  }
}

/** @returns how many times */
async function inject(
  database: SoakDatabase,
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
  }
}

/** The pool may be empty at first, and between two statements nothing runs. */
async function untilSome(attempt: () => Promise<number>): Promise<number> {
  const deadline = performance.now() + VICTIM_MS
  for (;;) {
    const hit = await attempt()
    if (hit > 0 || performance.now() > deadline) return hit
    await sleep(10)
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
        if ("failure" in answer) record.complain(`slow: ${answer.failure}`)
        else if ("status" in answer && answer.status !== 200 && answer.status !== 503) {
          record.complain(`slow: answered ${answer.status} ${answer.text.slice(0, 200)}`)
        }
      } finally {
        http.close()
      }
    }),
  )
}
