/** A random program of one session, as plain JSON: what is printed of a failing one can be run again. */

export const WRITES = [
  "insert",
  "save",
  "save-two",
  "update",
  "delete",
  "upsert",
  "builder-insert",
  "builder-update",
  "builder-delete",
  "repository-save",
  "raw-insert",
  "raw-update",
  "raw-delete",
] as const
export type WriteKind = (typeof WRITES)[number]

export const READS = ["find", "builder", "raw", "count"] as const
export type ReadKind = (typeof READS)[number]

export const FAILURES = ["syntax", "column", "not-null", "builder-column"] as const
export type FailureKind = (typeof FAILURES)[number]

export type TableName = "a" | "b"

/** Which variable a step uses: 0 the innermost one, 1 the one around it; -1 the last one whose block has ended. */
type Via = number

interface Identified {
  readonly id: number
}

/** `caught`: what it rejects with is swallowed where it happens; else it goes on to whatever is around. */
interface Call extends Identified {
  readonly via: Via
  readonly caught: boolean
}

export interface WriteStep extends Call {
  readonly do: "write"
  readonly kind: WriteKind
  readonly table: TableName
  readonly key: number
}

export interface ReadStep extends Call {
  readonly do: "read"
  readonly kind: ReadKind
  readonly table: TableName
}

export interface FailStep extends Call {
  readonly do: "fail"
  readonly kind: FailureKind
}

/** Ends the transaction under the session. `TRUNCATE` does so on MySQL, of a table that nothing else uses. */
export interface RawEndStep extends Call {
  readonly do: "raw"
  readonly verb: "COMMIT" | "ROLLBACK" | "TRUNCATE"
}

export interface EndStep extends Call {
  readonly do: "end"
  readonly verb: "commit" | "rollback" | "close"
}

export interface HookStep extends Identified {
  readonly do: "hook"
  readonly via: Via
  readonly on: "commit" | "rollback" | "completion"
}

export interface ThrowStep extends Identified {
  readonly do: "throw"
}

export interface WaitStep {
  readonly do: "wait"
  readonly ticks: number
  /** turns of the event loop, or else of the queue of promises */
  readonly isLong: boolean
}

/** Ends the server's side of the session's connection. */
export interface KillStep {
  readonly do: "kill"
  readonly isAwaited: boolean
}

export interface BlockStep extends Call {
  readonly do: "block"
  readonly body: readonly Step[]
}

/** `queryRunner.startTransaction()`. "repair": rolls back where the body or the commit fails; "open": nobody ends it. */
export interface HandStep extends Call {
  readonly do: "hand"
  readonly end: "commit" | "rollback" | "repair" | "open"
  readonly body: readonly Step[]
}

export interface TryStep {
  readonly do: "try"
  readonly body: readonly Step[]
}

export interface ParallelStep {
  readonly do: "parallel"
  /** `Promise.allSettled` instead of `Promise.all` */
  readonly isSettled: boolean
  readonly branches: readonly (readonly Step[])[]
}

/** A branch that nobody awaits. */
export interface LooseStep {
  readonly do: "loose"
  readonly body: readonly Step[]
}

export type Step =
  | WriteStep
  | ReadStep
  | FailStep
  | RawEndStep
  | EndStep
  | HookStep
  | ThrowStep
  | WaitStep
  | KillStep
  | BlockStep
  | HandStep
  | TryStep
  | ParallelStep
  | LooseStep

export interface Program {
  /** `maker.run()`, or `maker.open()` and `close()` */
  readonly opened: "run" | "open"
  readonly steps: readonly Step[]
}

/** @returns the lists of steps inside a step */
export function bodiesOf(step: Step): readonly (readonly Step[])[] {
  if (step.do === "parallel") return step.branches
  return "body" in step ? [step.body] : []
}

/** @returns the same step with other lists of steps in it */
export function withBodies(step: Step, bodies: readonly (readonly Step[])[]): Step {
  if (step.do === "parallel") return { ...step, branches: bodies }
  return "body" in step ? ({ ...step, body: bodies[0] ?? [] } as Step) : step
}

export function countSteps(steps: readonly Step[]): number {
  return steps.reduce((sum, step) => sum + 1 + bodiesOf(step).reduce((inner, body) => inner + countSteps(body), 0), 0)
}

/** @param program as it was printed @throws {Error} where it is none */
export function parseProgram(text: string): Program {
  const program = JSON.parse(text) as Partial<Program>
  if ((program.opened !== "run" && program.opened !== "open") || !Array.isArray(program.steps)) {
    throw new Error("--replay needs a program as it was printed: a JSON object with opened and steps.")
  }
  return program as Program
}
