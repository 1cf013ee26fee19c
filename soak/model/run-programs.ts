import { Checker, type CheckResult } from "./check"
import { type Family, generateProgram } from "./generate"
import type { ModelDatabase } from "./model-database"
import { bodiesOf, countSteps, type Program, type Step } from "./program"
import { textOfProgram } from "./program-text"
import { shrink } from "./shrink"
import { nameOf, type Settled, type Trace } from "./trace"

const TRIES_WITH_KILLS = 10

export interface ModelRunOptions {
  readonly programs: number
  readonly seed: number
  readonly families: ReadonlySet<Family>
  /** after so many programs with a difference the run ends */
  readonly failures: number
}

/** @returns how many programs showed a difference */
export async function runPrograms(database: ModelDatabase, options: ModelRunOptions): Promise<number> {
  const { programs, seed, families, failures } = options
  console.log(`${database.title}: ${programs} programs, seed ${seed}`)
  const startedAt = performance.now()
  return withChecker(database, async (checker) => {
    let failed = 0
    let statements = 0
    let doubtful = 0
    let number = 0
    while (number < programs && failed < failures) {
      const program = generateProgram(`${seed}/${number++}`, { kind: database.kind, families })
      const result = await checker.check(program)
      statements += result.trace.statements.length
      if (result.isDoubtful) doubtful++
      if (result.differences.length === 0) continue
      failed++
      console.log(`\nProgram ${number} of seed ${seed}: ${describe(result)}`)
      console.log(await describeSmallest(checker, program, result))
    }
    const seconds = (performance.now() - startedAt) / 1_000
    console.log(
      `${database.title}: ${number} programs with ${statements} statements in ${seconds.toFixed(1)} s, ` +
        `${failed} with a difference, ${doubtful} of which more outcomes are right than were looked at; seed ${seed}.`,
    )
    return failed
  })
}

/** @returns in how many of the runs the program showed a difference */
export async function replayProgram(database: ModelDatabase, program: Program, times: number): Promise<number> {
  return withChecker(database, async (checker) => {
    let failed = 0
    let isShown = false
    console.log(textOfProgram(program))
    for (let time = 0; time < times; time++) {
      const result = await checker.check(program)
      if (result.differences.length > 0) failed++
      console.log(`${database.title}: ${result.differences.length === 0 ? "no difference" : describe(result)}`)
      // The first one that shows it, or else the last one.
      const isTold: boolean = !isShown && (result.differences.length > 0 || time === times - 1)
      isShown ||= isTold
      if (isTold) console.log(linesOf(result.trace).join("\n"))
    }
    return failed
  })
}

/** What was sent and called, in order; a call with the time of its answer. */
function linesOf({ sent, statements, ends, blocks }: Trace): string[] {
  const answer = ({ settledAt, error }: Settled) => `until ${settledAt}${error ? ` (${nameOf(error.error)})` : ""}`
  const lines: [number, string][] = [
    ...sent.map(({ at, text, parameters, hasFailed }): [number, string] => [
      at,
      `${text} ${parameters.length > 0 ? JSON.stringify(parameters) : ""}${hasFailed ? " FAILED" : ""}`,
    ]),
    ...statements.map((one): [number, string] => [one.calledAt, `  #${one.step.id} called, ${answer(one)}`]),
    ...ends.map((one): [number, string] => {
      const caller = one.step ? `#${one.step.id}` : "the end"
      return [
        one.calledAt,
        `  ${caller}: ${one.verb}() called, ${answer(one)}${one.wasInTransaction ? ", in one" : ""}`,
      ]
    }),
    ...blocks.map((one): [number, string] => [
      one.openedAt,
      `  #${one.id} opened, ${answer(one)}, its code ended at ${one.bodyEndedAt}`,
    ]),
  ]
  return lines.sort(([one], [other]) => one - other).map(([at, text]) => `  ${at} ${text}`)
}

/** @returns the smallest program found that shows a difference of the same kind, ready to be printed */
export async function describeSmallest(checker: Checker, program: Program, result: CheckResult): Promise<string> {
  const kinds = new Set(result.differences.map(({ kind }) => kind))
  const fails = async (candidate: Program) => {
    // Whether a kill hits what it hit before is a matter of luck.
    for (let tries = hasKill(candidate.steps) ? TRIES_WITH_KILLS : 1; tries > 0; tries--) {
      if ((await checker.check(candidate)).differences.some(({ kind }) => kinds.has(kind))) return true
    }
    return false
  }
  const smallest = await shrink(program, fails)
  let again = await checker.check(smallest)
  for (let tries = 0; again.differences.length === 0 && tries < TRIES_WITH_KILLS; tries++)
    again = await checker.check(smallest)
  return [
    `Smallest (${countSteps(smallest.steps)} steps of ${countSteps(program.steps)}): ${describe(again)}`,
    textOfProgram(smallest),
    `npm run soak:model -- --replay '${JSON.stringify(smallest)}'`,
  ].join("\n")
}

export function describe({ differences }: CheckResult): string {
  if (differences.length === 0) return "no difference this time"
  return differences.map(({ kind, text }) => `\n  ${kind}: ${text}`).join("")
}

async function withChecker<T>(database: ModelDatabase, use: (checker: Checker) => Promise<T>): Promise<T> {
  const checker = new Checker(database)
  const note = (reason: unknown) => checker.noteUnhandled(reason)
  process.on("unhandledRejection", note)
  try {
    return await use(checker)
  } finally {
    process.off("unhandledRejection", note)
    await checker.close()
  }
}

function hasKill(steps: readonly Step[]): boolean {
  return steps.some((step) => step.do === "kill" || bodiesOf(step).some(hasKill))
}
