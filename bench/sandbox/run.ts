/**
 * Measures `suite.ts` with each way of isolation, on each database that is given:
 *
 *     npm run build && TEST_POSTGRES_URI=postgres://... TEST_MYSQL_URI=mysql://... TABLES=30 node dist/bench/sandbox/run.js [rounds]
 */
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { cpus, tmpdir } from "node:os"
import { join } from "node:path"
import { createDataSource } from "routing-controllers-typeorm"
import { entities, TABLES } from "./application"

const ROUNDS = Number(process.argv[2] ?? 3)
const SPECS = Number(process.env.SPECS ?? 200)
const ISOLATIONS = ["sandbox", "truncate", "delete"] as const
const MOCHA = require.resolve("mocha/bin/mocha.js")

interface Place {
  readonly name: string
  readonly uri: string
  drop(): Promise<void>
}

async function onServer(uri: string, sql: string): Promise<unknown> {
  const server = await createDataSource(uri, { entities: [] })
  try {
    return await server.query(sql)
  } finally {
    await server.destroy()
  }
}

async function places(): Promise<Place[]> {
  const found: Place[] = []
  for (const [kind, server] of [
    ["PostgreSQL", process.env.TEST_POSTGRES_URI],
    ["MariaDB/MySQL", process.env.TEST_MYSQL_URI],
  ] as const) {
    if (!server) continue
    const name = `sandbox_bench_${process.pid}`
    await onServer(server, `CREATE DATABASE ${name}`)
    const uri = new URL(server)
    uri.pathname = `/${name}`
    const [row] = (await onServer(server, "SELECT version() AS version")) as { version: string }[]
    const version = /\d[\w.]+/.exec(row?.version ?? "")?.[0]
    found.push({
      name: `${kind} ${version}`,
      uri: uri.href,
      drop: async () => void (await onServer(server, `DROP DATABASE ${name}`)),
    })
  }
  const folder = mkdtempSync(join(tmpdir(), "sandbox-bench-"))
  const drop = async () => rmSync(folder, { recursive: true, force: true })
  found.push({ name: "SQLite file", uri: `sqlite:///${join(folder, "bench.db")}`, drop })
  return found
}

/** @returns ms that mocha counts, without the start of the process */
function measure(uri: string, isolation: string): number {
  const args = [MOCHA, "--no-config", "--reporter", "json", "--timeout", "20000", join(__dirname, "suite.js")]
  const env = { ...process.env, DATABASE_URI: uri, ISOLATION: isolation, SPECS: String(SPECS) }
  const output = execFileSync(process.execPath, args, { env, encoding: "utf8", maxBuffer: 1e8 })
  const { stats } = JSON.parse(output.slice(output.indexOf("{"))) as {
    stats: { duration: number; passes: number; failures: number }
  }
  if (stats.passes !== SPECS || stats.failures > 0) throw new Error(`${isolation}: ${JSON.stringify(stats)}`)
  return stats.duration
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN
}

async function main(): Promise<void> {
  const cpu = cpus()
  console.log(
    `Node ${process.version}, ${cpu.length} x ${cpu[0]?.model}; ${SPECS} specs, ${TABLES} tables, ${ROUNDS} rounds\n`,
  )
  console.log("| database | sandbox | truncation | DELETE | truncation / sandbox | DELETE / sandbox |")
  console.log("| --- | ---: | ---: | ---: | ---: | ---: |")
  for (const { name, uri, drop } of await places()) {
    try {
      const dataSource = await createDataSource(uri, { entities, synchronize: true })
      await dataSource.destroy()
      const times: Record<(typeof ISOLATIONS)[number], number[]> = { sandbox: [], truncate: [], delete: [] }
      for (let round = 0; round < ROUNDS; round++) {
        const order = round % 2 ? [...ISOLATIONS].reverse() : ISOLATIONS
        for (const isolation of order) times[isolation].push(measure(uri, isolation))
      }
      const [own, truncation, deletion] = ISOLATIONS.map((isolation) => median(times[isolation])) as [
        number,
        number,
        number,
      ]
      const ms = (value: number) => `${Math.round(value)} ms`
      const ratio = (value: number) => (value / own).toFixed(1)
      console.log(
        `| ${name} | ${ms(own)} | ${ms(truncation)} | ${ms(deletion)} | ${ratio(truncation)} | ${ratio(deletion)} |`,
      )
    } finally {
      await drop()
    }
  }
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
