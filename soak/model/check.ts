import type { Logger } from "typeorm"
import { SessionMaker } from "../../src"
import type { Difference } from "./difference"
import { Execution } from "./execute"
import { hookDifferences } from "./hook-counts"
import type { ModelDatabase } from "./model-database"
import type { Program } from "./program"
import { Refusals } from "./refusals"
import { type Cells, isSame, Replay, textOf } from "./replay"
import { MODEL_ENTITIES } from "./statements"
import { nameOf, Trace } from "./trace"

/** How long whoever waits for a block that nobody ends waits; far more than any program needs. */
const ACQUIRE_TIMEOUT_MS = 500

export interface CheckResult {
  readonly differences: readonly Difference[]
  /** whether more outcomes were right than were looked at */
  readonly isDoubtful: boolean
  readonly trace: Trace
}

/** Runs programs one after another on one maker, and compares what each leaves behind with what the contract says. */
export class Checker {
  #maker: SessionMaker
  #trace: Trace | undefined
  readonly #unhandled: unknown[] = []

  constructor(private readonly database: ModelDatabase) {
    this.#maker = this.#makeMaker()
  }

  /** Takes part of whoever looks at what nobody handled. */
  noteUnhandled(reason: unknown): void {
    this.#unhandled.push(reason)
  }

  async check(program: Program): Promise<CheckResult> {
    const start = await this.database.restore()
    const trace = new Trace()
    this.#trace = trace
    this.#unhandled.length = 0
    await new Execution(this.#maker, trace, () => this.database.kill()).run(program)
    this.#trace = undefined
    // An unhandled rejection is reported one turn after it happened.
    await new Promise(setImmediate)
    if (trace.hasHung) {
      await this.#renew()
      return { differences: [{ kind: "hung", text: "the program did not end" }], isDoubtful: false, trace }
    }
    const left = [
      ...(await this.#leftOver()),
      ...this.#unhandled.map((reason) => ({
        kind: "unhandled" as const,
        text: `nobody handled ${nameOf(reason)}: ${reason}`,
      })),
    ]
    if (left.length > 0) await this.#renew()
    const compared = compare(trace, start, await this.database.cells())
    return { differences: [...left, ...compared.differences], isDoubtful: compared.isDoubtful, trace }
  }

  close(): Promise<void> {
    return this.#maker.close({ timeoutMs: 100 })
  }

  async #leftOver(): Promise<Difference[]> {
    const found: string[] = []
    const { open, active, waiting } = this.#maker.stats()
    if (open + active + waiting > 0) found.push(`stats(): ${JSON.stringify({ open, active, waiting })}`)
    const transactions = await this.database.openTransactions()
    if (transactions > 0) found.push(`${transactions} transactions are open in the database`)
    try {
      // The pool has one connection: where that is lost, nobody gets one any more.
      await this.#maker.run((session) => session.query("SELECT 1"))
    } catch (error) {
      found.push(`the next session failed: ${nameOf(error)}: ${error instanceof Error ? error.message : String(error)}`)
    }
    return found.map((text) => ({ kind: "left over", text }))
  }

  #makeMaker(): SessionMaker {
    const list = (parameters: unknown): readonly unknown[] => (Array.isArray(parameters) ? parameters : [])
    const logger: Logger = {
      logQuery: (text, parameters) => this.#trace?.noteSent(text, list(parameters)),
      logQueryError: (_, text, parameters) => this.#trace?.noteFailed(text, list(parameters)),
      logQuerySlow() {},
      logSchemaBuild() {},
      logMigration() {},
      log() {},
    }
    const options = { entities: MODEL_ENTITIES, logger, poolSize: 1, acquireTimeoutMs: ACQUIRE_TIMEOUT_MS }
    return new SessionMaker(this.database.uri, options)
  }

  /** One that lost its connection would fail every program that follows. */
  async #renew(): Promise<void> {
    const old = this.#maker
    this.#maker = this.#makeMaker()
    await Promise.race([old.close({ timeoutMs: 100 }), new Promise((resolve) => setTimeout(resolve, 2_000).unref())])
    await this.database.kill()
  }
}

function compare(trace: Trace, start: Cells, cells: Cells): Omit<CheckResult, "trace"> {
  const refusals = new Refusals(trace).differences()
  if (trace.isEntangled) return { differences: refusals, isDoubtful: true }
  const replay = new Replay(trace, start)
  const combinations = replay.choices()
  if (combinations === undefined) return { differences: refusals, isDoubtful: true }
  let first: Difference[] | undefined
  for (const choices of combinations) {
    const replayed = replay.run(choices)
    const found = [...replayed.differences, ...hookDifferences(trace, replay, choices)]
    if (!isSame(replayed.cells, cells)) {
      const ends = replay.ends.map(({ outcome, by }) => `${outcome} by ${by}`).join(", ")
      const text = `the tables hold ${textOf(cells)} instead of ${textOf(replayed.cells)}`
      found.push({ kind: "content", text: `${text}; transactions: ${ends || "none"}` })
    }
    if (found.length === 0) return { differences: refusals, isDoubtful: false }
    first ??= found
  }
  return { differences: [...refusals, ...(first ?? [])], isDoubtful: false }
}
