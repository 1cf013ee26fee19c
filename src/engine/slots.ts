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
  readonly #holders = new Set<ConnectionOwner>()
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
    if (this.#holders.size >= this.max) return false
    this.#holders.add(owner)
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
          this.#holders.add(request.owner)
          resolve()
        },
      }
      const timer = setTimeout(() => leave(this.#timeout(request)), request.timeoutMs)
      request.cancel = leave
      this.#waiters.push(waiter)
    })
  }

  release(owner: ConnectionOwner): void {
    if (!this.#holders.delete(owner)) return
    this.#waiters.shift()?.grant()
  }

  #timeout(request: AcquireRequest): AcquireTimeoutError {
    const holders = [...this.#holders]
    const named = holders.slice(0, 3).map((holder) => holder.describe())
    const more = holders.length > 3 ? `; and ${holders.length - 3} more` : ""
    return new AcquireTimeoutError(
      `${request.owner.describe()} got no ${this.noun} within ${request.timeoutMs} ms: ` +
        `all ${this.max} are held by ${named.join("; ")}${more}. ` +
        `End those sessions sooner, use one session for the whole request, or raise poolSize or acquireTimeoutMs.`,
    )
  }
}
