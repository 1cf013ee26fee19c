/** A function that runs once the transaction has ended; may be asynchronous. */
export type Hook = () => unknown

/** The hooks of one transaction or savepoint, in order of registration. */
export class Hooks {
  readonly commit: Hook[] = []
  readonly rollback: Hook[] = []

  /** Takes over the hooks of a released savepoint: they now end with this transaction. */
  adopt(inner: Hooks): void {
    this.commit.push(...inner.commit)
    this.rollback.push(...inner.rollback)
    inner.clear()
  }

  /** @returns the hooks of the outcome; none is left for a later transaction */
  take(outcome: keyof Pick<Hooks, "commit" | "rollback">): Hook[] {
    const taken = this[outcome].slice()
    this.clear()
    return taken
  }

  clear(): void {
    this.commit.length = 0
    this.rollback.length = 0
  }
}

/** Runs hooks one after another. One that throws is reported and stops no other. */
export async function runHooks(hooks: readonly Hook[], report: (error: unknown) => void): Promise<void> {
  for (const hook of hooks) {
    try {
      await hook()
    } catch (error) {
      report(error)
    }
  }
}
