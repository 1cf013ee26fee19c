import type { Session } from "../../../src/decorators/session"

/** Registers a function of each kind. @returns what was called, in order: `["committed", "completed: committed"]` */
export function recordOutcome(db: Session, called: string[] = [], name = ""): string[] {
  const prefix = name === "" ? "" : `${name} `
  db.afterCommit(() => void called.push(`${prefix}committed`))
  db.afterRollback(() => void called.push(`${prefix}rolled back`))
  db.afterCompletion((outcome) => void called.push(`${prefix}completed: ${outcome}`))
  return called
}

/** The codes of errors and of all that caused them. */
export function codesOf(errors: readonly unknown[]): string[] {
  const codes: string[] = []
  for (const error of errors) {
    const seen = new Set<unknown>()
    for (let one = error; typeof one === "object" && one !== null && !seen.has(one); one = nextCause(one)) {
      seen.add(one)
      if ("code" in one) codes.push(String(one.code))
    }
  }
  return codes
}

function nextCause(error: object): unknown {
  if ("cause" in error && error.cause !== undefined) return error.cause
  return "driverError" in error ? error.driverError : undefined
}
