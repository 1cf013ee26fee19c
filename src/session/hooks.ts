/** A function that runs once the transaction has ended; may be asynchronous. */
export type Hook = () => unknown

type Outcome = "commit" | "rollback"

/** The hooks of one transaction or savepoint, in order of registration. Most have none, so nothing is made before the first. */
export class Hooks {
  #commit: Hook[] | undefined
  #rollback: Hook[] | undefined

  get isEmpty(): boolean {
    return this.#commit === undefined && this.#rollback === undefined
  }

  add(outcome: Outcome, hook: Hook): void {
    if (outcome === "commit") this.#commit = append(this.#commit, [hook])
    else this.#rollback = append(this.#rollback, [hook])
  }

  /** Takes over the hooks of a released savepoint: they now end with this transaction. */
  adopt(inner: Hooks): void {
    this.#commit = append(this.#commit, inner.#commit)
    this.#rollback = append(this.#rollback, inner.#rollback)
    inner.#clear()
  }

  /** @returns the hooks of the outcome; none is left for a later transaction */
  take(outcome: Outcome): readonly Hook[] {
    const taken = (outcome === "commit" ? this.#commit : this.#rollback) ?? NONE
    this.#clear()
    return taken
  }

  #clear(): void {
    this.#commit = undefined
    this.#rollback = undefined
  }
}

const NONE: readonly Hook[] = []

function append(hooks: Hook[] | undefined, more: Hook[] | undefined): Hook[] | undefined {
  if (hooks === undefined || more === undefined) return hooks ?? more
  hooks.push(...more)
  return hooks
}

/** Takes errors that can be given to nobody. */
export interface ErrorSink {
  report(error: unknown): void
}

/** Runs hooks one after another. One that throws is reported and stops no other. */
export async function runHooks(hooks: readonly Hook[], sink: ErrorSink): Promise<void> {
  for (const hook of hooks) {
    try {
      await hook()
    } catch (error) {
      sink.report(error)
    }
  }
}
