import type Koa from "koa"
import { Deferred } from "./deferred"

export interface EmittedError {
  readonly error: unknown
  readonly ctx: Koa.Context | undefined
}

/** What an application emitted as `app.on("error")`. */
export interface KoaErrors {
  /** All since the start or the last `clear()`, in order. */
  all(): EmittedError[]
  /** The bare errors of `all()`. */
  errors(): unknown[]
  /** The first error that no `next()` has returned yet; waits for it where none has come. */
  next(): Promise<EmittedError>
  clear(): void
}

/** Collects the errors of an application; call it before `listen()`, or Koa prints them too. */
export function collectKoaErrors(app: Koa): KoaErrors {
  let emitted: EmittedError[] = []
  let returned = 0
  let arrival = new Deferred()
  app.on("error", (error: unknown, ctx?: Koa.Context) => {
    emitted.push({ error, ctx })
    arrival.resolve()
    arrival = new Deferred()
  })
  return {
    all: () => [...emitted],
    errors: () => emitted.map(({ error }) => error),
    async next() {
      const index = returned
      returned += 1
      for (;;) {
        const found = emitted[index]
        if (found !== undefined) return found
        await arrival.promise
      }
    },
    clear() {
      emitted = []
      returned = 0
    },
  }
}
