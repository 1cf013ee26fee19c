import { AcquireTimeoutError } from "../errors"
import type { AcquireRequest, ConnectionOwner, Wait } from "./connection"
import { type Linked, LinkedList } from "./linked-list"

/** An object and no closure: the closures of waiters kept each other's requests alive in V8 until the next full collection. */
class Waiter<Item> implements Linked, Wait {
  previous: this | undefined = undefined
  following: this | undefined = undefined

  constructor(
    private readonly slots: Slots<Item>,
    readonly request: AcquireRequest,
    /** ms on the clock of `performance.now()` */
    readonly deadline: number,
    readonly grant: (item: Item | undefined) => void,
    readonly refuse: (reason: Error) => void,
  ) {}

  cancel(reason: Error): void {
    this.slots.dismiss(this, reason)
  }
}

/**
 * A fixed number of places, given out first come, first served. Unlike the drivers' own queues, a waiter can leave.
 * What a place stands for can be handed from one holder to the next together with the place.
 */
export class Slots<Item = never> {
  /** One of them more than once where it asked for another place before it gave back the first. */
  readonly #holders: ConnectionOwner[] = []
  readonly #waiters = new LinkedList<Waiter<Item>>()
  #onFree: (() => void)[] | undefined
  /** One for all waiters, for the first deadline: one for each would cost every request of a busy server. */
  #timer: NodeJS.Timeout | undefined
  #timerEndsAt = Number.POSITIVE_INFINITY

  constructor(
    /** places, 1 or more */
    readonly max: number,
    /** what a place stands for in error messages, such as "connection" */
    private readonly noun: string,
  ) {}

  /** Resolves once nobody holds a place. */
  whenFree(): Promise<void> {
    if (this.#holders.length === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onFree ??= []
      this.#onFree.push(resolve)
    })
  }

  get waiting(): number {
    return this.#waiters.size
  }

  /** Takes a place if one is free and nobody was waiting before. */
  tryAcquire(owner: ConnectionOwner): boolean {
    if (this.#holders.length >= this.max) return false
    this.#holders.push(owner)
    return true
  }

  /**
   * Takes a place, waiting for one where all are taken.
   * @returns what the holder before has handed over with its place, if anything
   * @throws {AcquireTimeoutError} after `request.timeoutMs`, naming who holds the places; the queue forgets the request
   * @throws the reason given to `request.wait.cancel()`
   */
  acquire(request: AcquireRequest): Promise<Item | undefined> {
    if (this.tryAcquire(request.owner)) return Promise.resolve(undefined)
    return new Promise((resolve, reject) => {
      const deadline = performance.now() + request.timeoutMs
      const waiter = new Waiter<Item>(this, request, deadline, resolve, reject)
      request.wait = waiter
      this.#waiters.push(waiter)
      this.#wake(deadline)
    })
  }

  /** Gives the place, and `item` with it, to whoever has waited longest. @returns false where nobody waits; the place is kept */
  handOver(owner: ConnectionOwner, item: Item): boolean {
    if (this.#waiters.size === 0) return false
    this.#leave(owner, item)
    return true
  }

  release(owner: ConnectionOwner): void {
    this.#leave(owner, undefined)
  }

  #leave(owner: ConnectionOwner, item: Item | undefined): void {
    const place = this.#holders.indexOf(owner)
    if (place < 0) return
    const last = this.#holders.pop() as ConnectionOwner
    if (place < this.#holders.length) this.#holders[place] = last
    const next = this.#waiters.first
    if (next === undefined) {
      if (this.#onFree && this.#holders.length === 0) for (const resolve of this.#onFree.splice(0)) resolve()
      return
    }
    this.#waiters.remove(next)
    this.#rest()
    next.request.wait = undefined
    this.#holders.push(next.request.owner)
    next.grant(item)
  }

  /** For its waiters: they leave the queue and reject. */
  dismiss(waiter: Waiter<Item>, reason: Error): void {
    waiter.request.wait = undefined
    this.#waiters.remove(waiter)
    this.#rest()
    waiter.refuse(reason)
  }

  #wake(at: number): void {
    if (at >= this.#timerEndsAt) return
    clearTimeout(this.#timer)
    this.#timerEndsAt = at
    this.#timer = setTimeout(() => this.#expire(), Math.max(1, Math.ceil(at - performance.now())))
  }

  #rest(): void {
    if (this.#waiters.size > 0) return
    clearTimeout(this.#timer)
    this.#timerEndsAt = Number.POSITIVE_INFINITY
  }

  #expire(): void {
    this.#timerEndsAt = Number.POSITIVE_INFINITY
    const now = performance.now()
    for (const waiter of this.#waiters.all()) {
      if (waiter.deadline <= now) this.dismiss(waiter, this.#timeout(waiter.request))
      else this.#wake(waiter.deadline)
    }
  }

  #timeout(request: AcquireRequest): AcquireTimeoutError {
    const holders = [...new Set(this.#holders)]
    const named = holders.slice(0, 3).map((holder) => holder.describe())
    const more = holders.length > 3 ? `; and ${holders.length - 3} more` : ""
    return new AcquireTimeoutError(
      `${request.owner.describe()} got no ${this.noun} within ${request.timeoutMs} ms: ` +
        `all ${this.max} are held by ${named.join("; ")}${more}. ` +
        `End those sessions sooner, use one session for the whole request, or raise poolSize or acquireTimeoutMs.`,
    )
  }
}
