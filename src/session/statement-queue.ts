import type { Block } from "./block"
import { CountedStorage } from "./counted-storage"

/** Code that is called out of a running step. */
interface Reentry {
  readonly queue: StatementQueue
  /** the statements that it sent last; each waits for the one before */
  last: Promise<unknown>
  hasEnded: boolean
}

const reentries = new CountedStorage<Reentry>()

interface Task {
  readonly block: Block
  /** whether it ends its block; without it the blocks around would wait for ever */
  readonly isLast: boolean
  readonly start: () => void
  readonly refuse: (reason: Error) => void
}

/**
 * Runs a session's steps one after another, in the order they were asked for. A step belongs to a block and runs while that
 * block is the innermost one; the steps of outer blocks wait until it has ended.
 */
export class StatementQueue {
  /** the innermost open block */
  top: Block
  readonly #waiting: Task[] = []
  #isRunning = false
  #refusal: (() => Error) | undefined
  #onIdle: (() => void)[] = []

  constructor(root: Block) {
    this.top = root
  }

  get isIdle(): boolean {
    return !this.#isRunning && this.#waiting.length === 0
  }

  /** @throws what `step` throws, or the reason of `refuse()` */
  run<T>(block: Block, step: () => Promise<T>): Promise<T> {
    return this.#enqueue(block, step, false)
  }

  /** Like `run()`, for the step that ends the block: `refuseBlock()` spares it. */
  runLast<T>(block: Block, step: () => Promise<T>): Promise<T> {
    return this.#enqueue(block, step, true)
  }

  /**
   * From now on every step is refused, those that wait included; the running one goes on.
   * @param late makes the error for steps that come later
   */
  refuse(waiting: () => Error, late: () => Error): void {
    this.#refusal = late
    for (const task of this.#waiting.splice(0)) task.refuse(waiting())
  }

  /** Refuses the waiting steps of one block; it has been rolled back under them. */
  refuseBlock(block: Block, reason: () => Error): void {
    for (let index = this.#waiting.length - 1; index >= 0; index--) {
      const task = this.#waiting[index]
      if (!task?.block.isWithin(block) || task.isLast) continue
      this.#waiting.splice(index, 1)
      task.refuse(reason())
    }
  }

  /** Runs `fn` out of the running step: what it asks for runs at once, as a part of that step, and refusals spare it. */
  async reenter<T>(fn: () => Promise<T>): Promise<T> {
    const reentry: Reentry = { queue: this, last: Promise.resolve(), hasEnded: false }
    try {
      return await reentries.run(reentry, fn)
    } finally {
      reentry.hasEnded = true
    }
  }

  /** Resolves once nothing runs; steps that wait for an inner block do not count. */
  whenNotRunning(): Promise<void> {
    if (!this.#isRunning) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onIdle.push(resolve)
    })
  }

  #enqueue<T>(block: Block, step: () => Promise<T>, isLast: boolean): Promise<T> {
    const reentry = reentries.get()
    if (this.#isRunning && reentry?.queue === this && !reentry.hasEnded) {
      const result = reentry.last.then(step)
      reentry.last = result.catch(() => undefined)
      return result
    }
    if (this.#refusal) return Promise.reject(this.#refusal())
    if (!this.#isRunning && this.#waiting.length === 0 && block.heir === this.top) return this.#start(step)
    return new Promise<T>((resolve, reject) => {
      const start = () => {
        this.#start(step).then(resolve, reject)
      }
      this.#waiting.push({ block, isLast, start, refuse: reject })
      if (!this.#isRunning) this.#next()
    })
  }

  async #start<T>(step: () => Promise<T>): Promise<T> {
    this.#isRunning = true
    try {
      return await step()
    } finally {
      this.#isRunning = false
      this.#next()
    }
  }

  #next(): void {
    const index = this.#waiting.findIndex((task) => task.block.heir === this.top)
    if (index >= 0) {
      const [task] = this.#waiting.splice(index, 1)
      task?.start()
    }
    if (!this.#isRunning && this.#onIdle.length > 0) for (const resolve of this.#onIdle.splice(0)) resolve()
  }
}
