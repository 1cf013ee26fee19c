import { type Due, unwatch, watch } from "../engine/deadlines"
import type { Block } from "./block"
import { CountedStorage } from "./counted-storage"
import { nextTick } from "./next-tick"

/** Code that is called out of a running step. */
interface Reentry {
  readonly queue: StatementQueue
  /** the statements that it sent last; each waits for the one before */
  last: Promise<unknown> | undefined
  hasEnded: boolean
}

const reentries = new CountedStorage<Reentry>()

/** What a step does, for errors: the text of a statement, of which only the verb is shown, or a phrase. */
export type StepName = string | { readonly phrase: string }

class Task implements Due {
  previous: this | undefined = undefined
  following: this | undefined = undefined
  dueAt = 0

  constructor(
    private readonly queue: StatementQueue,
    readonly block: Block,
    readonly name: StepName,
    /** what it does once its time is over, where it ends its block: without it the blocks around would wait for ever */
    readonly late: (() => () => Promise<void>) | undefined,
    /** whether blocks inside that no code is bound to end, end with it */
    readonly endsInner: boolean,
    public start: () => void,
    readonly refuse: (reason: Error) => void,
  ) {}

  overdue(): void {
    this.queue.expire(this)
  }
}

/** Makes the errors of steps that are refused. */
export interface Refuser {
  /** ms that a step may wait for its turn */
  readonly turnTimeoutMs: number
  /** for a step that was waiting when the session ended */
  refuseWaiting(): Error
  /** for one that came after that */
  refuseLate(): Error
  /** for one that has waited too long; says what it was and what it has waited for */
  refuseOverdue(waiting: string, holding: string): Error
}

/**
 * Runs a session's steps one after another, in the order they were asked for. A step belongs to a block and runs while that
 * block is the innermost one; the steps of outer blocks wait until it has ended, and no longer than `turnTimeoutMs`.
 */
export class StatementQueue {
  /** the innermost open block */
  top: Block
  readonly #refuser: Refuser
  readonly #waiting: Task[] = []
  #isRunning = false
  #runningName: StepName = ""
  #isClosed = false
  #onIdle: (() => void)[] | undefined

  constructor(root: Block, refuser: Refuser) {
    this.top = root
    this.#refuser = refuser
  }

  get isIdle(): boolean {
    return !this.#isRunning && this.#waiting.length === 0
  }

  /**
   * Begins a step at once, without a promise, where its turn has come; it ends with `leave()`.
   * @returns false where it has to wait or is refused: `run()` sees to that
   */
  tryEnter(block: Block, name: StepName): boolean {
    if (this.#isRunning || this.#waiting.length > 0 || this.#isClosed || block.heir !== this.top) return false
    this.#isRunning = true
    this.#runningName = name
    return true
  }

  leave(): void {
    this.#isRunning = false
    this.#next()
  }

  /** @throws what `step` throws, or an error of the `Refuser` */
  run<T>(block: Block, name: StepName, step: () => Promise<T>): Promise<T> {
    return this.#enqueue(block, name, step, undefined, false)
  }

  /**
   * Like `run()`, for the step that ends the block: `refuseBlock()` spares it.
   * @param late called when it has waited too long and is refused; what it returns runs in its place, however late that is
   * @param endsInner whether blocks inside that no code is bound to end, end with it
   */
  runLast<T>(block: Block, step: () => Promise<T>, late: () => () => Promise<void>, endsInner = false): Promise<T> {
    return this.#enqueue(block, END_OF_BLOCK, step, late, endsInner)
  }

  /** From now on every step is refused, those that wait included; the running one goes on. */
  close(): void {
    this.#isClosed = true
    for (const task of this.#waiting.splice(0)) this.#refuse(task, this.#refuser.refuseWaiting())
  }

  /**
   * Refuses the waiting steps of one block; it is rolled back under them.
   * @param isOver whether it has been, so that no block inside it is left to be ended
   */
  refuseBlock(block: Block, reason: () => Error, isOver = false): void {
    for (let index = this.#waiting.length - 1; index >= 0; index--) {
      const task = this.#waiting[index]
      // The end of a block inside one that is undone would never get its turn.
      const isEndToCome = task?.late && !(isOver && task.block !== block)
      if (!task?.block.isWithin(block) || isEndToCome) continue
      this.#waiting.splice(index, 1)
      this.#refuse(task, reason())
    }
  }

  /** For its tasks: their time is over. */
  expire(task: Task): void {
    const holding = this.#isRunning ? `${nameOf(this.#runningName)} was running` : this.#describeTop()
    const late = task.late?.()
    if (late === undefined) this.#waiting.splice(this.#waiting.indexOf(task), 1)
    else task.start = () => void this.#start(task.name, late)
    task.refuse(this.#refuser.refuseOverdue(nameOf(task.name), holding))
  }

  /**
   * Runs `fn` out of the running step: what it asks for runs at once, as a part of that step, and refusals spare it. What it
   * did not await is waited for: else it would run beside the next step, or after the end, when nobody would end it.
   */
  async reenter<T>(fn: () => Promise<T>): Promise<T> {
    const reentry: Reentry = { queue: this, last: undefined, hasEnded: false }
    try {
      return await reentries.run(reentry, fn)
    } finally {
      for (let last = reentry.last; last; last = last === reentry.last ? undefined : reentry.last) {
        await last
        // A `save()` sends its next statement some promises later.
        await nextTick()
      }
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

  #enqueue<T>(
    block: Block,
    name: StepName,
    step: () => Promise<T>,
    late: (() => () => Promise<void>) | undefined,
    endsInner: boolean,
  ): Promise<T> {
    const reentry = reentries.get()
    if (this.#isRunning && reentry?.queue === this && !reentry.hasEnded) {
      const result = reentry.last ? reentry.last.then(step) : step()
      reentry.last = result.catch(() => undefined)
      return result
    }
    if (this.#isClosed) return Promise.reject(this.#refuser.refuseLate())
    if (!this.#isRunning && this.#waiting.length === 0 && this.#isTurnOf(block, endsInner))
      return this.#start(name, step)
    return new Promise<T>((resolve, reject) => {
      const start = () => {
        this.#start(name, step).then(resolve, reject)
      }
      const task = new Task(this, block, name, late, endsInner, start, reject)
      this.#waiting.push(task)
      watch(task, this.#refuser.turnTimeoutMs)
      if (!this.#isRunning) this.#next()
    })
  }

  #isTurnOf(block: Block, endsInner: boolean): boolean {
    let top = this.top
    while (endsInner && top !== block && top.isByHand && top.parent) top = top.parent
    return block.heir === top
  }

  #refuse(task: Task, reason: Error): void {
    unwatch(task)
    task.refuse(reason)
  }

  async #start<T>(name: StepName, step: () => Promise<T>): Promise<T> {
    this.#isRunning = true
    this.#runningName = name
    try {
      return await step()
    } finally {
      this.leave()
    }
  }

  #next(): void {
    if (this.#waiting.length > 0) {
      const index = this.#waiting.findIndex(({ block, endsInner }) => this.#isTurnOf(block, endsInner))
      const [task] = index < 0 ? [] : this.#waiting.splice(index, 1)
      if (task) {
        unwatch(task)
        task.start()
      }
    }
    if (!this.#isRunning && this.#onIdle) for (const resolve of this.#onIdle.splice(0)) resolve()
  }

  #describeTop(): string {
    if (this.top.parent === undefined) return "another step was"
    return this.top.isByHand
      ? "a transaction begun with queryRunner.startTransaction() was open"
      : "a transaction() block was open, which runs nothing and may itself wait for this"
  }
}

const END_OF_BLOCK = { phrase: "the end of a transaction() block" }

function nameOf(name: StepName): string {
  if (typeof name !== "string") return name.phrase
  const [verb = "a"] = /[a-z]+/i.exec(name) ?? []
  return `a statement (${verb.toUpperCase()})`
}
