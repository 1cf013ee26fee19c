/**
 * `npm run soak:model -- [--programs 10000] [--database sqlite|postgres|mysql|all] [--seed N] [--kills] [--without a,b]
 * [--replay JSON] [--verbose]`: random programs of one session against what the contract says must become of them.
 */
import "reflect-metadata"
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"
import { stopEmbeddedPostgres } from "../../spec/support/embedded-postgres"
import { FAMILIES, type Family } from "./generate"
import { KINDS, ModelDatabase, type ModelDatabaseKind } from "./model-database"
import { parseProgram } from "./program"
import { replayProgram, runPrograms } from "./run-programs"

function readOptions() {
  const { values } = parseArgs({
    options: {
      database: { type: "string", default: "all" },
      programs: { type: "string", default: "10000" },
      seed: { type: "string", default: String(randomInt(1, 1_000_000)) },
      kills: { type: "boolean", default: false },
      without: { type: "string", default: "" },
      replay: { type: "string" },
      failures: { type: "string", default: "5" },
      times: { type: "string", default: "1" },
    },
  })
  const kinds = values.database === "all" ? KINDS : KINDS.filter((kind) => kind === values.database)
  if (kinds.length === 0) throw new Error(`--database must be one of all, ${KINDS.join(", ")}.`)
  const [programs, seed, failures] = [values.programs, values.seed, values.failures].map(Number) as [
    number,
    number,
    number,
  ]
  if (!(programs >= 1 && programs <= 1_000_000)) throw new Error("--programs must be 1 to 1000000.")
  if (!Number.isInteger(seed)) throw new Error("--seed must be a whole number.")
  const left = values.without.split(",").filter((name) => name !== "")
  const unknown = left.find((name) => !FAMILIES.some((family) => family === name))
  if (unknown !== undefined) throw new Error(`--without ${unknown}: there are ${FAMILIES.join(", ")}.`)
  const families = new Set<Family>(
    FAMILIES.filter((family) => !left.includes(family) && (values.kills || family !== "kills")),
  )
  const program = values.replay === undefined ? undefined : parseProgram(values.replay)
  return { kinds, programs, seed, families, failures, program, times: Number(values.times) }
}

/** Errors are a part of the programs; those that no application takes are reported as warnings, and would be thousands. */
function showOtherWarnings(): void {
  process.removeAllListeners("warning")
  process.on("warning", (warning) => {
    if (/Warning$/.test(warning.name)) console.warn(`${warning.name}: ${warning.message}`)
  })
}

async function main(): Promise<void> {
  const { kinds, program, ...options } = readOptions()
  showOtherWarnings()
  let failed = 0
  for (const kind of kinds)
    failed += await onDatabase(kind, (database) =>
      program ? replayProgram(database, program, options.times) : runPrograms(database, options),
    )
  if (failed > 0) process.exitCode = 1
}

async function onDatabase(kind: ModelDatabaseKind, use: (database: ModelDatabase) => Promise<number>): Promise<number> {
  const database = await ModelDatabase.create(kind)
  if (typeof database === "string") {
    console.log(`${kind} is skipped: ${database}`)
    return 0
  }
  try {
    return await use(database)
  } finally {
    await database.drop()
  }
}

main()
  .catch((error: unknown) => {
    console.error(error)
    process.exitCode = 1
  })
  .finally(stopEmbeddedPostgres)
