import type { Program, Step } from "./program"

/** A program as code that a person reads. */
export function textOfProgram({ opened, steps }: Program): string {
  return [`session of maker.${opened}():`, ...linesOf(steps, "  ")].join("\n")
}

function linesOf(steps: readonly Step[], indent: string): string[] {
  return steps.flatMap((step) => {
    const deeper = `${indent}  `
    switch (step.do) {
      case "block":
        return [`${indent}${headOf(step)} {`, ...linesOf(step.body, deeper), `${indent}}`]
      case "hand":
        return [`${indent}${headOf(step)} {`, ...linesOf(step.body, deeper), `${indent}} ${step.end}`]
      case "try":
        return [`${indent}try {`, ...linesOf(step.body, deeper), `${indent}} caught`]
      case "loose":
        return [`${indent}nobody awaits {`, ...linesOf(step.body, deeper), `${indent}}`]
      case "parallel":
        return [
          `${indent}${step.isSettled ? "Promise.allSettled" : "Promise.all"} {`,
          ...step.branches.flatMap((branch, index) => [
            `${deeper}branch ${index + 1} {`,
            ...linesOf(branch, `${deeper}  `),
            `${deeper}}`,
          ]),
          `${indent}}`,
        ]
      default:
        return [`${indent}${headOf(step)}`]
    }
  })
}

function headOf(step: Step): string {
  switch (step.do) {
    case "write":
      return `#${step.id} ${step.kind} ${step.table}${step.key}${callOf(step)}`
    case "read":
      return `#${step.id} read ${step.table} by ${step.kind}${callOf(step)}`
    case "fail":
      return `#${step.id} a statement that fails (${step.kind})${callOf(step)}`
    case "raw":
      return `#${step.id} query("${step.verb}")${callOf(step)}`
    case "end":
      return `#${step.id} ${step.verb}()${callOf(step)}`
    case "hook":
      return `#${step.id} after ${step.on}${variableOf(step.via)}`
    case "throw":
      return `#${step.id} throw`
    case "wait":
      return `wait ${step.ticks} ${step.isLong ? "turns" : "microtasks"}`
    case "kill":
      return step.isAwaited ? "kill the connection" : "kill the connection, meanwhile"
    case "block":
      return `#${step.id} transaction()${callOf(step)}`
    case "hand":
      return `#${step.id} startTransaction()${callOf(step)}`
    default:
      return step.do
  }
}

function callOf({ via, caught }: { via: number; caught: boolean }): string {
  return `${variableOf(via)}${caught ? ", caught" : ""}`
}

function variableOf(via: number): string {
  if (via === 0) return ""
  return via > 0 ? ` through the variable ${via} further out` : " through a variable whose block has ended"
}
