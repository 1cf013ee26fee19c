/** Does what it is given in order, each after the delay in force when it came. */
export class DelayLine {
  readonly #delayMs: () => number
  readonly #queue: { readonly dueAt: number; readonly action: () => void }[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(delayMs: () => number) {
    this.#delayMs = delayMs
  }

  push(action: () => void): void {
    const ms = this.#delayMs()
    if (ms === 0 && this.#queue.length === 0) {
      action()
      return
    }
    this.#queue.push({ dueAt: performance.now() + ms, action })
    this.#wait()
  }

  #wait(): void {
    const first = this.#queue[0]
    if (first === undefined || this.#timer !== undefined) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        // Node's timers may fire a fraction of a millisecond early.
        if (performance.now() >= first.dueAt) {
          this.#queue.shift()
          first.action()
        }
        this.#wait()
      },
      Math.max(0, first.dueAt - performance.now()),
    )
  }
}
