import type { Outcome } from "../engine/connection"

/** A function that runs once the transaction has ended; may be asynchronous. */
export type Hook = () => unknown

/** A function that runs once the transaction has ended, and is told how; may be asynchronous. */
export type CompletionHook = (outcome: Outcome) => unknown

/** When a hook runs: in which of the outcomes, or in each. */
export type Occasion = "committed" | "rolled back" | "any"

/** The hooks of one transaction or savepoint, in order of registration. Most have none, so nothing is made before the first. */
export class Hooks {
  #hooks: { readonly occasion: Occasion; readonly hook: CompletionHook }[] | undefined

  get isEmpty(): boolean {
    return this.#hooks === undefined
  }

  add(occasion: Occasion, hook: CompletionHook): void {
    this.#hooks ??= []
    this.#hooks.push({ occasion, hook })
  }

  /** Takes over the hooks of a released savepoint: they now end with this transaction. */
  adopt(inner: Hooks): void {
    if (inner.#hooks === undefined) return
    if (this.#hooks === undefined) this.#hooks = inner.#hooks
    else this.#hooks.push(...inner.#hooks)
    inner.#hooks = undefined
  }

  /** @returns the hooks that are to run; none is left for a later transaction */
  take(outcome: Outcome): readonly Hook[] {
    const hooks = this.#hooks
    if (hooks === undefined) return NONE
    this.#hooks = undefined
    const due = hooks.filter(({ occasion }) => occasion === outcome || occasion === "any")
    return due.map(
      ({ hook }) =>
        () =>
          hook(outcome),
    )
  }
}

const NONE: readonly Hook[] = []

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
