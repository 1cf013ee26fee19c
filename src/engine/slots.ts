import { AcquireTimeoutError } from "../errors"
import type { AcquireRequest, ConnectionOwner } from "./connection"

interface Waiter {
  readonly owner: ConnectionOwner
  readonly grant: () => void
}

/**
 * A fixed number of places, given out first come, first served. Unlike the drivers' own queues, a waiter can leave.
 */
export class Slots {
  /** With the number of their places: a session that gave one up may ask for another before the first is given back. */
  readonly #holders = new Map<ConnectionOwner, number>()
  #taken = 0
  readonly #waiters: Waiter[] = []

  constructor(
    /** places, 1 or more */
    readonly max: number,
    /** what a place stands for in error messages, such as "connection" */
    private readonly noun: string,
  ) {}

  get waiting(): number {
    return this.#waiters.length
  }

  /** Takes a place if one is free and nobody was waiting before. */
  tryAcquire(owner: ConnectionOwner): boolean {
    if (this.#taken >= this.max) return false
    this.#take(owner)
    return true
  }

  /**
   * Takes a place, waiting for one where all are taken.
   * @throws {AcquireTimeoutError} after `request.timeoutMs`, naming who holds the places; the queue forgets the request
   * @throws the reason given to `request.cancel()`
   */
  acquire(request: AcquireRequest): Promise<void> {
    if (this.tryAcquire(request.owner)) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const leave = (reason: Error) => {
        clearTimeout(timer)
        request.cancel = undefined
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        reject(reason)
      }
      const waiter: Waiter = {
        owner: request.owner,
        grant: () => {
          clearTimeout(timer)
          request.cancel = undefined
          this.#take(request.owner)
          resolve()
        },
      }
      const timer = setTimeout(() => leave(this.#timeout(request)), request.timeoutMs)
      request.cancel = leave
      this.#waiters.push(waiter)
    })
  }

  release(owner: ConnectionOwner): void {
    const places = this.#holders.get(owner)
    if (places === undefined) return
    if (places === 1) this.#holders.delete(owner)
    else this.#holders.set(owner, places - 1)
    this.#taken--
    this.#waiters.shift()?.grant()
  }

  #take(owner: ConnectionOwner): void {
    this.#taken++
    this.#holders.set(owner, (this.#holders.get(owner) ?? 0) + 1)
  }

  #timeout(request: AcquireRequest): AcquireTimeoutError {
    const holders = [...this.#holders.keys()]
    const named = holders.slice(0, 3).map((holder) => holder.describe())
    const more = holders.length > 3 ? `; and ${holders.length - 3} more` : ""
    return new AcquireTimeoutError(
      `${request.owner.describe()} got no ${this.noun} within ${request.timeoutMs} ms: ` +
        `all ${this.max} are held by ${named.join("; ")}${more}. ` +
        `End those sessions sooner, use one session for the whole request, or raise poolSize or acquireTimeoutMs.`,
    )
  }
}
