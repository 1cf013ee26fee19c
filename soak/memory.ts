/**
 * `npm run soak:memory -- [--database sqlite|postgres|mysql] [--minutes 10] [--requests 1000000]`: the heap of the
 * application after garbage collection, at the tenth part, the half and the end of a long run without faults.
 */
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import type { BankState } from "./bank"
import { createSoakDatabase } from "./databases"
import { HttpClient } from "./http-client"
import type { BankDatabase } from "./plan"
import { type ServerProcess, startServer } from "./server-process"

const CLIENTS = 32
const KINDS: readonly BankDatabase[] = ["sqlite", "postgres", "mysql"]
const PARTS = [0.1, 0.5, 1]

/** Bytes by which the heap may differ: four bytes for each of a million requests. */
const SLACK = 4 * 2 ** 20

interface MemoryRun {
  readonly database: BankDatabase
  readonly requests: number
  readonly minutes: number
}

function readOptions(): MemoryRun {
  const { values } = parseArgs({
    options: {
      database: { type: "string", default: "postgres" },
      requests: { type: "string", default: "1000000" },
      minutes: { type: "string", default: "10" },
    },
  })
  const database = KINDS.find((kind) => kind === values.database)
  const [requests, minutes] = [Number(values.requests), Number(values.minutes)]
  if (database === undefined) throw new Error(`--database must be one of ${KINDS.join(", ")}.`)
  if (!(requests >= 100 && requests <= 10_000_000)) throw new Error("--requests must be 100 to 10000000.")
  if (!(minutes > 0 && minutes <= 120)) throw new Error("--minutes must be above 0, at most 120.")
  return { database, requests, minutes }
}

interface Sample {
  readonly sent: number
  readonly heapUsed: number
}

/** Requests that waited too long for a connection or a statement, as they do on a machine that has other work. */
let busy = 0

/** Every second request reads; the others do nothing. */
async function load(server: ServerProcess, { requests, minutes }: MemoryRun): Promise<Sample[]> {
  const clients = Array.from({ length: CLIENTS }, () => new HttpClient(server.port))
  const samples: Sample[] = []
  const limitMs = minutes * 60_000
  const startedAt = performance.now()
  let sent = 0
  const progress = () => Math.max(sent / requests, (performance.now() - startedAt) / limitMs)
  try {
    for (const part of PARTS) {
      await Promise.all(
        clients.map(async (http) => {
          while (progress() < part) {
            const path = sent++ % 2 === 0 ? "/nothing" : "/total"
            const answer = await http.ask({ method: "GET", path })
            if ("status" in answer && answer.status === 503) busy++
            else if (!("status" in answer) || answer.status !== 200) {
              throw new Error(`GET ${path} was answered ${JSON.stringify(answer)}`)
            }
          }
        }),
      )
      const { heapUsed } = await server.get<{ heapUsed: number }>("/heap")
      samples.push({ sent, heapUsed })
      console.log(`${Math.round(part * 100)} %: ${sent} requests, heap after gc ${mebibytes(heapUsed)}`)
    }
  } finally {
    for (const http of clients) http.close()
  }
  return samples
}

async function main(): Promise<void> {
  const options = readOptions()
  console.log(`Node ${process.version}, ${availableParallelism()} cores`)
  const database = await createSoakDatabase(options.database)
  if ("skipReason" in database) {
    console.log(`${options.database} is skipped: ${database.skipReason}`)
    return
  }
  console.log(`${database.title}; half of the requests do nothing, half read the sum of all accounts\n`)
  try {
    const server = await startServer(database.uri)
    try {
      const samples = await load(server, options)
      const { stats, reported } = await server.get<BankState>("/state")
      if (busy > 0) console.log(`\n${busy} requests were answered 503: ${JSON.stringify(reported)}`)
      const ending = await server.stop()
      if (ending !== undefined) throw new Error(ending)
      conclude(samples, stats.open)
    } finally {
      server.kill()
    }
  } finally {
    await database.drop()
  }
}

function conclude(samples: readonly Sample[], open: number): void {
  const first = samples[0]?.heapUsed ?? 0
  const last = samples.at(-1)?.heapUsed ?? 0
  const isFlat = last <= first + SLACK
  if (!isFlat || open !== 0) process.exitCode = 1
  console.log(
    `\nMemory: ${isFlat ? "flat" : "NOT flat"}, ${mebibytes(last - first)} from 10 % to the end; open sessions ${open}.`,
  )
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(2)} MiB`
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
