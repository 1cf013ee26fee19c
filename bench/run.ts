/**
 * `npm run bench -- [--rounds 5] [--seconds 3] [--only <part of a row's name>] [--write-baseline]` measures every row of the
 * table and writes `RESULTS.md`; `npm run bench:short -- [--write-baseline]` looks for regressions against `baseline.json`.
 */
import { parseArgs } from "node:util"
import { stopEmbeddedPostgres } from "../spec/support/embedded-postgres"
import { leaveServersCore } from "./affinity"
import { checksOf, describeRegression, findRegressions, readBaseline, writeBaseline } from "./baseline"
import { type BenchDatabase, createPostgres, createSqliteFile, ROWS } from "./databases"
import { describeMachine } from "./machine"
import { CONNECTIONS, type DatabaseUris, type Effort, keyOf, type Measurement, traceWrites } from "./measurements"
import { loadTable, otherTable, reachTable } from "./report"
import { writeResults } from "./results-file"
import { measurementsOf, runKeptRounds, runRounds } from "./rounds"
import { CONTENDERS, ROWS_OF_TABLE } from "./rows"
import { POOL_SIZE } from "./servers/data-source"
import { VARIANTS } from "./variants"

const SHORT_ROUNDS = 5
/** How often what seems to be a regression is measured again: whatever else the machine does then does not last. */
const REPEATS = 2
const SHORT_EFFORT: Effort = {
  warmUpRequests: 8_000,
  resumeRequests: 2_000,
  measureMs: 300,
  measureRequests: 3_000,
  timedRequests: 40,
  coldStarts: 1,
}

interface Options {
  readonly isShort: boolean
  readonly rounds: number
  readonly seconds: number
  readonly only: string | undefined
  readonly writesBaseline: boolean
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      short: { type: "boolean", default: false },
      rounds: { type: "string", default: "5" },
      seconds: { type: "string", default: "3" },
      only: { type: "string" },
      "write-baseline": { type: "boolean", default: false },
    },
  })
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)]
  if (!(Number.isInteger(rounds) && rounds >= 1 && rounds <= 50)) throw new Error("--rounds must be 1 to 50.")
  if (!(seconds >= 0.2 && seconds <= 60)) throw new Error("--seconds must be 0.2 to 60.")
  return { isShort: values.short, rounds, seconds, only: values.only, writesBaseline: values["write-baseline"] }
}

async function runFull(uris: DatabaseUris, databases: readonly string[], options: Options): Promise<void> {
  const { only, rounds, seconds } = options
  const rows = ROWS_OF_TABLE.filter(({ work }) => only === undefined || work.includes(only))
  if (rows.length === 0) throw new Error(`--only ${only}: no row has that in its name.`)
  const measurements = measurementsOf(rows, only === undefined ? CONTENDERS : [])
  const traces = await traceAll(measurements, uris.postgres)
  const effort: Effort = {
    warmUpRequests: 20_000,
    resumeRequests: 0,
    measureMs: seconds * 1000,
    measureRequests: 10_000,
    timedRequests: 200,
    coldStarts: 5,
  }
  const samples = await runRounds(measurements, uris, effort, rounds, (line) => console.log(line))
  const text = [
    ...describeMachine(databases).map((line) => `- ${line}`),
    `- ${rounds} rounds with fresh servers, order reversed in each; ${CONNECTIONS} connections, ${ROWS} rows, pools of ${POOL_SIZE}; ` +
      `${effort.warmUpRequests} requests to warm up, ${seconds} s measured; ratios are taken within a round, and the median of the rounds is shown`,
    "",
    reachTable(rows, samples),
    "",
    `Under load: CPU of the server's process for one request. What comes to the database in one write is written without \`;\`.`,
    "",
    loadTable(samples, traces),
    "",
    otherTable(samples),
  ].join("\n")
  console.log(`\n${text}`)
  if (only === undefined) writeResults(text)
}

async function traceAll(measurements: readonly Measurement[], uri: string): Promise<Map<string, string[]>> {
  const traces = new Map<string, string[]>()
  for (const measurement of measurements) {
    const { kind, variant, work } = measurement
    if (kind !== "throughput" || VARIANTS[variant].database !== "postgres") continue
    traces.set(keyOf(measurement), await traceWrites(variant, work, uri))
  }
  return traces
}

/** @returns whether nothing is worse than the baseline each time that it was measured */
async function runShort(uris: DatabaseUris, writesBaseline: boolean): Promise<boolean> {
  const checks = checksOf(ROWS_OF_TABLE.filter(({ isShort }) => isShort))
  const run = (some: typeof checks) =>
    runKeptRounds(measurementsOf(some.map(({ row }) => row)), uris, SHORT_EFFORT, SHORT_ROUNDS, () => {})
  const samples = await run(checks)
  console.log(
    reachTable(
      checks.map(({ row }) => row),
      samples,
    ),
  )
  if (writesBaseline) {
    writeBaseline(checks, samples)
    return true
  }
  const baseline = readBaseline()
  if (Object.keys(baseline).length === 0) {
    console.warn(
      "bench/baseline.json is missing, so nothing was compared: write it on a quiet machine with --write-baseline.",
    )
  }
  let suspects = findRegressions(checks, samples, baseline)
  for (let repeat = 0; repeat < REPEATS && suspects.length > 0; repeat++) {
    const again = suspects.map(({ check }) => check)
    suspects = findRegressions(again, await run(again), baseline)
  }
  for (const regression of suspects) console.error(`Regression: ${describeRegression(regression)}.`)
  return suspects.length === 0
}

async function main(): Promise<void> {
  const options = readOptions()
  leaveServersCore()
  const databases: BenchDatabase[] = []
  try {
    const postgres = await createPostgres()
    databases.push(postgres)
    const sqlite = await createSqliteFile()
    databases.push(sqlite)
    const uris: DatabaseUris = { postgres: postgres.uri, sqlite: sqlite.uri }
    const versions = databases.map(({ version }) => version)
    if (!options.isShort) await runFull(uris, versions, options)
    if (!options.isShort && !options.writesBaseline) return
    if (!(await runShort(uris, options.writesBaseline))) process.exitCode = 1
  } finally {
    for (const database of databases) await database.drop()
    await stopEmbeddedPostgres()
  }
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
