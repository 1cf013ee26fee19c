/**
 * A promise that is settled from outside: the barrier that forces one interleaving in a spec.
 * @example const entered = new Deferred(); run(async () => { entered.resolve(); await leave.promise }); await entered.promise
 */
export class Deferred<T = void> {
  readonly promise: Promise<T>
  resolve!: (value: T | PromiseLike<T>) => void
  reject!: (reason: unknown) => void

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }
}
