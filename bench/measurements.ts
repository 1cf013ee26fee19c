import { setTimeout as sleep } from "node:timers/promises"
import { Load, timeRequests } from "./load"
import { startProxy } from "./proxy-process"
import { type ServerProcess, startServer } from "./server-process"
import type { Usage } from "./servers/serve"
import { type DatabaseName, REQUESTS, startOf, VARIANTS, type VariantName, type Work } from "./variants"

/** One thing that is measured in each round, with a fresh server. */
export type Measurement =
  | { readonly kind: "throughput"; readonly variant: VariantName; readonly work: Work }
  | { readonly kind: "latency"; readonly variant: VariantName; readonly work: Work }
  | { readonly kind: "coldStart"; readonly variant: VariantName; readonly work: Work }
  | { readonly kind: "retained"; readonly variant: VariantName; readonly work: Work }

export type Metric = "cpuMicros" | "perSecond" | "busy" | "latencyMs" | "coldStartMs" | "retainedBytes"

/** What a measurement gave; each kind has its own. */
export type Sample = { readonly [Name in Metric]?: number }

export interface Effort {
  /** before the first sample of a server; counted and not timed: a busy machine must not leave the compiler half done */
  readonly warmUpRequests: number
  /** before each later sample: V8 drops the code of functions that were not called for a while */
  readonly resumeRequests: number
  /** at least; a sample takes as much longer as `measureRequests` need */
  readonly measureMs: number
  /** at least */
  readonly measureRequests: number
  /** requests that are timed, one after another */
  readonly timedRequests: number
  readonly coldStarts: number
}

export const CONNECTIONS = 32
export const ONE_WAY_MS = 2
const IDLE_SESSIONS = 10_000
/** for the load to be in full swing again where the server is warm */
const RESUME_MS = 100
const PATIENCE_MS = 120_000
/** for what a server sends to the database after the response */
const TRAILING_MS = 50

export type DatabaseUris = Readonly<Record<DatabaseName, string>>

/** Equal for equal measurements. */
export function keyOf({ kind, variant, work }: Measurement): string {
  return `${kind} ${variant} ${work}`
}

/** One measurement made ready; its server runs until `close()`. */
export interface Probe {
  take(): Promise<Sample>
  close(): Promise<void>
}

export async function openProbe(measurement: Measurement, uris: DatabaseUris, effort: Effort): Promise<Probe> {
  const { kind, variant, work } = measurement
  const uri = uris[VARIANTS[variant].database]
  switch (kind) {
    case "throughput":
      return throughputProbe(await startServer(startOf(variant, uri)), work, effort)
    case "latency":
      return latencyProbe(variant, uri, work, effort)
    case "coldStart":
      return { take: () => measureColdStart(variant, uri, work, effort), close: async () => {} }
    case "retained":
      return retainedProbe(await startServer(startOf(variant, uri, ["--expose-gc"])))
  }
}

/**
 * What one request sends to PostgreSQL: the verbs of each write, in order, what follows the response included.
 * Empty for work that uses no database.
 */
export async function traceWrites(variant: VariantName, work: Work, uri: string): Promise<string[]> {
  const proxy = await startProxy(uri, 0)
  try {
    const server = await startServer(startOf(variant, proxy.uri))
    try {
      await timeRequests(server.port, REQUESTS[work], 3)
      await sleep(TRAILING_MS)
      await proxy.takeWrites()
      await timeRequests(server.port, REQUESTS[work], 1)
      await sleep(TRAILING_MS)
      return await proxy.takeWrites()
    } finally {
      await server.stop()
    }
  } finally {
    await proxy.stop()
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

function throughputProbe(server: ServerProcess, work: Work, effort: Effort): Probe {
  let warmUpRequests = effort.warmUpRequests
  return {
    async take() {
      const load = new Load(server.port, REQUESTS[work], CONNECTIONS)
      await load.start()
      try {
        const atStart = await server.usage()
        const before = await usageAfter(server, atStart, { requests: warmUpRequests, ms: RESUME_MS })
        warmUpRequests = effort.resumeRequests
        const { measureRequests: requests, measureMs: ms } = effort
        return sampleBetween(before, await usageAfter(server, before, { requests, ms }))
      } finally {
        await load.stop()
      }
    },
    close: () => server.stop(),
  }
}

/** Waits until the server has been busy for that long and has answered that many. */
export async function usageAfter(
  server: ServerProcess,
  since: Usage,
  { requests, ms }: { readonly requests: number; readonly ms: number },
): Promise<Usage> {
  await sleep(ms)
  for (;;) {
    const usage = await server.usage()
    if (usage.requests - since.requests >= requests) return usage
    if (usage.atMs - since.atMs > PATIENCE_MS) {
      throw new Error(
        `The server answered ${usage.requests - since.requests} requests in ${PATIENCE_MS} ms, not ${requests}.`,
      )
    }
    await sleep(RESUME_MS)
  }
}

function sampleBetween(before: Usage, after: Usage): Sample {
  const requests = after.requests - before.requests
  const cpuMicros = after.cpuMicros - before.cpuMicros
  const elapsedMs = after.atMs - before.atMs
  return {
    cpuMicros: cpuMicros / requests,
    perSecond: (requests / elapsedMs) * 1000,
    busy: cpuMicros / 1000 / elapsedMs,
  }
}

async function latencyProbe(variant: VariantName, uri: string, work: Work, effort: Effort): Promise<Probe> {
  const proxy = await startProxy(uri, ONE_WAY_MS)
  const server = await startServer(startOf(variant, proxy.uri))
  let warmUp = Math.ceil(effort.timedRequests / 2)
  return {
    async take() {
      await timeRequests(server.port, REQUESTS[work], warmUp)
      warmUp = 1
      return { latencyMs: median(await timeRequests(server.port, REQUESTS[work], effort.timedRequests)) }
    },
    async close() {
      await server.stop()
      await proxy.stop()
    },
  }
}

function retainedProbe(server: ServerProcess): Probe {
  return {
    async take() {
      return { retainedBytes: await server.retainedBytes(IDLE_SESSIONS) }
    },
    close: () => server.stop(),
  }
}

async function measureColdStart(variant: VariantName, uri: string, work: Work, effort: Effort): Promise<Sample> {
  const times: number[] = []
  for (let start = 0; start < effort.coldStarts; start++) {
    const startedAt = performance.now()
    const server = await startServer(startOf(variant, uri))
    await timeRequests(server.port, REQUESTS[work], 1)
    times.push(performance.now() - startedAt)
    await server.stop()
  }
  return { coldStartMs: median(times) }
}
