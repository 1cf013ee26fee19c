import "reflect-metadata"
import { setImmediate as turn } from "node:timers/promises"
import { inspect } from "node:util"
import { expect, use } from "chai"
import chaiAsPromised from "chai-as-promised"
import type { RootHookObject } from "mocha"
import { Container } from "typedi"
import { SessionMaker } from "../src/session/session-maker"
import { resetContainer } from "../src/testing"
import { databaseReport, requireDatabasesInCi } from "./support/databases"
import { stopEmbeddedPostgres } from "./support/embedded-postgres"
import { noteCurrentSpec, takeIncidents, watchIncidents } from "./support/incidents"

use(chaiAsPromised)
watchIncidents()

const LONGEST_END_MS = 1_000

let environment: NodeJS.ProcessEnv = {}

function startSpec(this: Mocha.Context): void {
  environment = { ...process.env }
  noteCurrentSpec(this.currentTest?.fullTitle() ?? "unknown")
}

function restoreEnvironment(): void {
  for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name]
  Object.assign(process.env, environment)
}

/** A maker that is still in the container with a session in it would make the next spec wait, or fail for no fault of its own. */
async function checkNothingIsLeft(): Promise<void> {
  const { services } = Container.of(undefined) as unknown as { services: { id: unknown; value: unknown }[] }
  const makers = services.filter(({ id, value }) => id === SessionMaker || value instanceof SessionMaker)
  const open = await Promise.all(
    makers.flatMap(({ value }) => (value instanceof SessionMaker ? [whenIdle(value)] : [])),
  )
  await resetContainer()
  // A reset keeps how a service is made.
  for (const { id } of makers) Container.remove(id as typeof SessionMaker)
  expect(open, "sessions that the spec left open").to.deep.equal(open.map(() => 0))
}

/** The answer comes before the end of a session that only read. @returns how many sessions stay open */
async function whenIdle(maker: SessionMaker): Promise<number> {
  const deadline = performance.now() + LONGEST_END_MS
  while (maker.stats().open > 0 && performance.now() < deadline) await turn()
  return maker.stats().open
}

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
