/**
 * `node dist/bench/profile.js <server> <work> [--seconds 5] [--top 40]`: runs a server under load with `--cpu-prof` and prints
 * where its time goes, in µs for one request. Servers are the names in `variants.ts`, work is ping, read, write or services.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { stopEmbeddedPostgres } from "../spec/support/embedded-postgres"
import { leaveServersCore } from "./affinity"
import { type CpuProfile, groupTimes, selfTimes } from "./cpu-profile"
import { createPostgres, createSqliteFile } from "./databases"
import { Load } from "./load"
import { CONNECTIONS, usageAfter } from "./measurements"
import { startServer } from "./server-process"
import { REQUESTS, startOf, VARIANTS, type VariantName, type Work } from "./variants"

const INTERVAL_MICROS = 200
const WARM_UP_REQUESTS = 20_000

interface Options {
  readonly variant: VariantName
  readonly work: Work
  readonly seconds: number
  readonly top: number
}

function readOptions(): Options {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seconds: { type: "string", default: "5" }, top: { type: "string", default: "40" } },
  })
  const [variant = "", work = ""] = positionals
  if (!(variant in VARIANTS)) throw new Error(`The server must be one of ${Object.keys(VARIANTS).join(", ")}.`)
  if (!(work in REQUESTS)) throw new Error(`The work must be one of ${Object.keys(REQUESTS).join(", ")}.`)
  const seconds = Number(values.seconds)
  if (!(seconds >= 1 && seconds <= 60)) throw new Error("--seconds must be 1 to 60.")
  return { variant: variant as VariantName, work: work as Work, seconds, top: Number(values.top) }
}

async function profile({ variant, work, seconds }: Options, uri: string): Promise<[CpuProfile, number, number]> {
  const folder = await mkdtemp(join(tmpdir(), "bench-profile-"))
  try {
    const flags = ["--cpu-prof", `--cpu-prof-dir=${folder}`, `--cpu-prof-interval=${INTERVAL_MICROS}`]
    const startedAt = performance.now()
    const server = await startServer(startOf(variant, uri, flags))
    const load = new Load(server.port, REQUESTS[work], CONNECTIONS)
    await load.start()
    const before = await usageAfter(server, await server.usage(), { requests: WARM_UP_REQUESTS, ms: 1000 })
    const skippedMs = performance.now() - startedAt
    const after = await usageAfter(server, before, { requests: WARM_UP_REQUESTS, ms: seconds * 1000 })
    await load.stop()
    await server.stop()
    const [name = ""] = await readdir(folder)
    const read = JSON.parse(await readFile(join(folder, name), "utf8")) as CpuProfile
    return [read, skippedMs * 1000, after.requests - before.requests]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function main(): Promise<void> {
  const options = readOptions()
  leaveServersCore()
  const isSqlite = VARIANTS[options.variant].database === "sqlite"
  const database = isSqlite ? await createSqliteFile() : await createPostgres()
  try {
    const [cpuProfile, skipMicros, requests] = await profile(options, database.uri)
    const times = selfTimes(cpuProfile, skipMicros)
    const total = times.reduce((sum, { micros }) => sum + micros, 0)
    const line = (micros: number, what: string) =>
      `${(micros / requests).toFixed(2).padStart(8)} µs ${((micros / total) * 100).toFixed(1).padStart(5)} %  ${what}`
    console.log(`${VARIANTS[options.variant].title}, ${options.work}: ${requests} requests; self time for one request`)
    console.log(`${line(total, "in all")}\n`)
    for (const { group, micros } of groupTimes(times)) console.log(line(micros, group))
    console.log("")
    for (const { group, place, micros } of times.slice(0, options.top)) console.log(line(micros, `[${group}] ${place}`))
  } finally {
    await database.drop()
    await stopEmbeddedPostgres()
  }
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
