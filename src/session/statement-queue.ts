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

/** Makes the errors of steps that are refused because the session has ended. */
export interface Refuser {
  /** for a step that was waiting */
  refuseWaiting(): Error
  /** for one that came later */
  refuseLate(): Error
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
  #refuser: Refuser | undefined
  #onIdle: (() => void)[] | undefined

  constructor(root: Block) {
    this.top = root
  }

  get isIdle(): boolean {
    return !this.#isRunning && this.#waiting.length === 0
  }

  /**
   * Begins a step at once, without a promise, where its turn has come; it ends with `leave()`.
   * @returns false where it has to wait or is refused: `run()` sees to that
   */
  tryEnter(block: Block): boolean {
    if (this.#isRunning || this.#waiting.length > 0 || this.#refuser || block.heir !== this.top) return false
    this.#isRunning = true
    return true
  }

  leave(): void {
    this.#isRunning = false
    this.#next()
  }

  /** @throws what `step` throws, or the error of the `Refuser` */
  run<T>(block: Block, step: () => Promise<T>): Promise<T> {
    return this.#enqueue(block, step, false)
  }

  /** Like `run()`, for the step that ends the block: `refuseBlock()` spares it. */
  runLast<T>(block: Block, step: () => Promise<T>): Promise<T> {
    return this.#enqueue(block, step, true)
  }

  /** From now on every step is refused, those that wait included; the running one goes on. */
  refuse(refuser: Refuser): void {
    this.#refuser = refuser
    if (this.#waiting.length > 0) for (const task of this.#waiting.splice(0)) task.refuse(refuser.refuseWaiting())
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
      this.#onIdle ??= []
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
    if (this.#refuser) return Promise.reject(this.#refuser.refuseLate())
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
      this.leave()
    }
  }

  #next(): void {
    if (this.#waiting.length > 0) {
      const index = this.#waiting.findIndex((task) => task.block.heir === this.top)
      if (index >= 0) this.#waiting.splice(index, 1)[0]?.start()
    }
    if (!this.#isRunning && this.#onIdle) for (const resolve of this.#onIdle.splice(0)) resolve()
  }
}
