/**
 * Runs the same behaviours through this package, typeorm-transactional and nestjs-cls, each in a process and a PostgreSQL
 * database of its own, and prints what each did:
 *
 *     npm run build && cd bench/compare && npm ci && POSTGRES_URI=postgres://... node run.cjs
 */
const { execFileSync } = require("node:child_process")
const { existsSync, readFileSync } = require("node:fs")
const { join } = require("node:path")
const { Client } = require("pg")

const programs = ["ours", "typeorm-transactional", "nestjs-cls"]
const serverUri = process.env.POSTGRES_URI ?? process.env.TEST_POSTGRES_URI

const TABLES = `
  CREATE TABLE note (id serial PRIMARY KEY, text text NOT NULL UNIQUE);
  CREATE TABLE remark (id serial PRIMARY KEY, note_id int NOT NULL REFERENCES note DEFERRABLE INITIALLY DEFERRED)`

async function on(uri, sql) {
  const client = new Client({ connectionString: uri })
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

async function run(program) {
  const name = `compare_${program.replaceAll("-", "_")}_${process.pid}`
  await on(serverUri, `CREATE DATABASE ${name}`)
  try {
    const uri = Object.assign(new URL(serverUri), { pathname: `/${name}` }).href
    await on(uri, TABLES)
    const script = join(__dirname, "programs", `${program}.cjs`)
    const output = execFileSync(process.execPath, [script, uri], { encoding: "utf8", timeout: 60_000 })
    return JSON.parse(output)
  } finally {
    await on(serverUri, `DROP DATABASE ${name} WITH (FORCE)`)
  }
}

function describe(value) {
  return Object.entries(value)
    .filter(([, one]) => one !== undefined)
    .map(([key, one]) => `${key} ${JSON.stringify(one)}`)
    .join(", ")
}

function versionOf(name) {
  const file = join(__dirname, "node_modules", name, "package.json")
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).version : "not installed"
}

async function main() {
  if (!serverUri) throw new Error("Set POSTGRES_URI to a PostgreSQL server where databases can be created.")
  const [{ version }] = await on(serverUri, "SHOW server_version AS version").catch(() =>
    on(serverUri, "SELECT version()"),
  )
  console.log(`Node ${process.version}, ${version}`)
  for (const name of ["typeorm", "typeorm-transactional", "nestjs-cls", "@nestjs-cls/transactional", "@nestjs/core"]) {
    console.log(`${name} ${versionOf(name)}`)
  }
  const results = {}
  for (const program of programs) results[program] = await run(program)
  for (const behaviour of Object.keys(results.ours)) {
    console.log(`\n${behaviour}`)
    for (const program of programs)
      console.log(`  ${program.padEnd(22)} ${describe(results[program][behaviour] ?? {})}`)
  }
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
