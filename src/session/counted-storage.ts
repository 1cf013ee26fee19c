import { AsyncLocalStorage } from "node:async_hooks"

/**
 * An `AsyncLocalStorage` that is on only while it is used. On Node 20 one that is on slows every promise of the process down,
 * so it is switched off again as soon as nobody runs in it.
 */
export class CountedStorage<T> {
  readonly #storage = new AsyncLocalStorage<T>()
  #running = 0
  #isKept = false

  run<R>(value: T, fn: () => Promise<R>): Promise<R> {
    return this.#isKept ? this.#storage.run(value, fn) : this.#runCounted(value, fn)
  }

  async #runCounted<R>(value: T, fn: () => Promise<R>): Promise<R> {
    this.#running++
    try {
      return await this.#storage.run(value, fn)
    } finally {
      this.#running--
      if (this.#running === 0) this.#storage.disable()
    }
  }

  /** Leaves it on until what is returned is called, so that code which goes on after its `run()` keeps its value. */
  hold(): () => void {
    this.#running++
    return () => {
      this.#running--
      if (this.#running === 0) this.#storage.disable()
    }
  }

  /** Leaves it on for good, so that code which goes on after its `run()` has ended still gets the value of that run. */
  keep(): void {
    this.#running++
    this.#isKept = true
  }

  get(): T | undefined {
    return this.#running === 0 ? undefined : this.#storage.getStore()
  }
}
