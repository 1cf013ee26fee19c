/**
 * `node dist/bench/resolve-commits.js [--rounds 5]`: what `resolveCommits: true` costs a request that writes, on PostgreSQL: CPU of
 * the server's process, and the time of an answer where the database is a network away.
 */
import { parseArgs } from "node:util"
import { stopEmbeddedPostgres } from "../spec/support/embedded-postgres"
import { leaveServersCore } from "./affinity"
import { createPostgres } from "./databases"
import { type Effort, keyOf, type Measurement, type Metric, median } from "./measurements"
import { runRounds } from "./rounds"

const EFFORT: Effort = {
  warmUpRequests: 8_000,
  resumeRequests: 1_000,
  measureMs: 2_000,
  measureRequests: 4_000,
  timedRequests: 150,
  coldStarts: 1,
}

const measurement = (kind: "throughput" | "latency", variant: "session" | "resolving") =>
  ({ kind, variant, work: "write" }) as const satisfies Measurement

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } })
  leaveServersCore()
  const database = await createPostgres()
  try {
    const kinds: readonly (readonly ["throughput" | "latency", Metric, string])[] = [
      ["throughput", "cpuMicros", "CPU µs of a request"],
      ["latency", "latencyMs", "ms until the answer"],
    ]
    const measurements = kinds.flatMap(([kind]) => [measurement(kind, "session"), measurement(kind, "resolving")])
    const uris = { postgres: database.uri, sqlite: "" }
    const samples = await runRounds(measurements, uris, EFFORT, Number(values.rounds), console.log)
    for (const [kind, metric, title] of kinds) {
      const [without = [], having = []] = (["session", "resolving"] as const).map((variant) =>
        (samples.get(keyOf(measurement(kind, variant))) ?? []).map((sample) => sample[metric] ?? Number.NaN),
      )
      const ratios = having.map((value, round) => value / (without[round] ?? Number.NaN))
      const show = (list: readonly number[]) => median(list).toFixed(2)
      console.log(`${title}: ${show(without)} without, ${show(having)} with; ratio ${show(ratios)}`)
    }
  } finally {
    await database.drop()
    await stopEmbeddedPostgres()
  }
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
