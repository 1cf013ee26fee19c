/** `npm run soak -- [--database sqlite|postgres|mysql|all] [--seconds 60] [--seed N] [--resolve-commits]`: see the top of `RESULTS.md`. */
import { randomInt } from "node:crypto"
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { createSoakDatabase } from "./databases"
import type { BankDatabase } from "./plan"
import { describeVerdict, isClean, printResult, type Verdict, verdictOf } from "./report"
import { type BankRunOptions, runBank } from "./run-bank"

const ALL: readonly BankDatabase[] = ["sqlite", "postgres", "mysql"]
const CLIENTS = 64

function readOptions(): BankRunOptions & { databases: readonly BankDatabase[] } {
  const { values } = parseArgs({
    options: {
      database: { type: "string", default: "all" },
      seconds: { type: "string", default: "60" },
      "resolve-commits": { type: "boolean", default: false },
      seed: { type: "string", default: String(randomInt(1, 1_000_000)) },
    },
  })
  const databases = values.database === "all" ? ALL : ALL.filter((name) => name === values.database)
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)]
  if (databases.length === 0) throw new Error(`--database must be one of all, ${ALL.join(", ")}.`)
  if (!(seconds >= 5 && seconds <= 3600)) throw new Error("--seconds must be 5 to 3600.")
  if (!Number.isInteger(seed)) throw new Error("--seed must be a whole number.")
  const resolveCommits = values["resolve-commits"]
  if (resolveCommits && values.database !== "postgres") throw new Error("--resolve-commits needs --database postgres.")
  return { databases, seconds, seed, clients: CLIENTS, resolveCommits }
}

async function main(): Promise<void> {
  const { databases, ...options } = readOptions()
  console.log(`Seed ${options.seed}; Node ${process.version}, ${availableParallelism()} cores`)
  const sum: Verdict = { lost: 0, doubled: 0, leaked: 0, wrong: 0 }
  let ran = 0
  for (const kind of databases) {
    const database = await createSoakDatabase(kind)
    if ("skipReason" in database) {
      console.log(`\n### ${kind} is skipped: ${database.skipReason}`)
      continue
    }
    try {
      const result = await runBank(database, options)
      printResult(database, options, result)
      const verdict = verdictOf(result)
      for (const name of Object.keys(sum) as (keyof Verdict)[])
        Object.assign(sum, { [name]: sum[name] + verdict[name] })
      ran++
    } finally {
      await database.drop()
    }
  }
  if (!isClean(sum)) process.exitCode = 1
  console.log(`\nSoak with seed ${options.seed} on ${ran} of ${databases.length} databases: ${describeVerdict(sum)}.`)
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
