/**
 * What a program must never do although no spec looks at it: rejections and exceptions that nobody handled, deprecation
 * warnings. `spec/setup.ts` fails the run for each one that no spec took.
 */
let recorded: Incident[] = []
let watching = false
let currentSpec = "loading"

export interface Incident {
  readonly kind: "unhandledRejection" | "uncaughtException" | "DeprecationWarning"
  readonly reason: unknown
  /** Title of the spec that ran at that time: likely, not surely, the one to look at. */
  readonly during: string
}

/** Says which spec runs from now on. */
export function noteCurrentSpec(title: string): void {
  currentSpec = title
}

/** Starts to listen; does nothing the second time. */
export function watchIncidents(): void {
  if (watching) return
  watching = true
  const seen = new WeakSet<Promise<unknown>>()
  process.on("unhandledRejection", (reason, promise) => {
    // Mocha emits each one a second time, for listeners such as this one.
    if (seen.has(promise)) return
    seen.add(promise)
    record("unhandledRejection", reason)
  })
  process.on("uncaughtExceptionMonitor", (reason, origin) => {
    if (origin === "uncaughtException") record("uncaughtException", reason)
  })
  process.on("warning", (warning) => {
    if (warning.name === "DeprecationWarning") record("DeprecationWarning", warning)
  })
}

function record(kind: Incident["kind"], reason: unknown): void {
  recorded.push({ kind, reason, during: currentSpec })
}

/** Returns what happened since the last call and forgets it: a spec that provokes an incident takes it. */
export function takeIncidents(): Incident[] {
  const taken = recorded
  recorded = []
  return taken
}
