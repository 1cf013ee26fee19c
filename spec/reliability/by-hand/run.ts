/**
 * Prints what transactions written by hand do in the situations of the reliability specs: `node dist/spec/reliability/by-hand/run.js`.
 * PostgreSQL. Each situation has a process of its own, for some of them end it. `docs/reliability.md` quotes what is printed.
 */
import "reflect-metadata"
import { type ChildProcess, fork } from "node:child_process"
import { embeddedPostgresUri, stopEmbeddedPostgres } from "../../support/embedded-postgres"
import { type Scenario, scenarios } from "./scenarios"

const LIMIT_MS = 20_000

async function observe(name: string, uri: string): Promise<string> {
  const child: ChildProcess = fork(__filename, [name, uri], { stdio: ["ignore", "ignore", "pipe", "ipc"] })
  let stderr = ""
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk
  })
  const lines: string[] = []
  child.on("message", (line) => lines.push(String(line)))
  const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS)
  const code = await new Promise<number | null>((resolve) => child.once("exit", resolve))
  clearTimeout(timer)
  if (code !== 0) {
    const cause = /^.*(?:Error|error).*$/m.exec(stderr)?.[0] ?? ""
    lines.push(code === null ? `no end within ${LIMIT_MS} ms` : `THE PROCESS ENDED with code ${code}: ${cause}`)
  }
  const warning = /DeprecationWarning: .*/.exec(stderr)?.[0]
  if (warning) lines.push(warning)
  return lines.join("; ")
}

async function main(): Promise<void> {
  const [name, uri] = process.argv.slice(2)
  const only: Scenario | undefined = name === undefined ? undefined : scenarios[name]
  if (only && uri !== undefined) {
    await only((line) => process.send?.(line))
    process.exit(0)
  }
  const server = await embeddedPostgresUri()
  const chosen = name === undefined ? Object.keys(scenarios) : [name]
  for (const one of chosen) console.log(`${one}\n    ${await observe(one, server)}`)
  await stopEmbeddedPostgres()
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
