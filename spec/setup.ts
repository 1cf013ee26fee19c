import "reflect-metadata"
import { setImmediate as turn } from "node:timers/promises"
import { inspect } from "node:util"
import { use } from "chai"
import chaiAsPromised from "chai-as-promised"
import type { RootHookObject } from "mocha"
import { databaseReport, requireDatabasesInCi } from "./support/databases"
import { stopEmbeddedPostgres } from "./support/embedded-postgres"
import { noteCurrentSpec, takeIncidents, watchIncidents } from "./support/incidents"

use(chaiAsPromised)
watchIncidents()

let environment: NodeJS.ProcessEnv = {}

function startSpec(this: Mocha.Context): void {
  environment = { ...process.env }
  noteCurrentSpec(this.currentTest?.fullTitle() ?? "unknown")
}

function restoreEnvironment(): void {
  for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name]
  Object.assign(process.env, environment)
}

/** TODO until src/testing/ exists: resetContainer(), then no active session in any maker, no live request scope. */
async function checkNothingIsLeft(): Promise<void> {}

/** Mocha itself overlooks a rejection that nobody handled: with its own listener in place Node does not end the process. */
async function failOnIncidents(): Promise<void> {
  // An unhandled rejection is reported one turn after it happened.
  await turn()
  const incidents = takeIncidents()
  if (incidents.length === 0) return
  const list = incidents.map(({ kind, reason, during }) => `${kind} during "${during}": ${inspect(reason)}`)
  throw new Error(`Nobody handled these:\n${list.join("\n")}`)
}

export const mochaHooks: RootHookObject = {
  beforeEach: [startSpec],
  afterEach: [checkNothingIsLeft, restoreEnvironment],
}

export function mochaGlobalSetup(): void {
  requireDatabasesInCi()
}

export async function mochaGlobalTeardown(): Promise<void> {
  try {
    for (const line of await databaseReport()) console.log(`  ${line}`)
  } finally {
    await stopEmbeddedPostgres()
  }
  await failOnIncidents()
}
