import type { AcquireRequest } from "./connection"
import { codeOf } from "./failure-kind"

/** Whether another process holds the file. SQLite's own busy timeout would stop the event loop, so it is 0 here. */
export function isBusy(error: unknown): boolean {
  const code = codeOf(error)
  return code === "SQLITE_BUSY" || code === "SQLITE_BUSY_RECOVERY"
}

/**
 * Tries again what has failed, until the file is free or the request's time to wait for its connection is over.
 * @param first the error that it has failed with
 * @throws what the last attempt throws; the reason given to `request.wait.cancel()`
 */
export async function retryWhileBusy<T>(attempt: () => T, first: unknown, request: AcquireRequest): Promise<T> {
  const deadline = performance.now() + request.timeoutMs
  let failure = first
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 50)) {
    if (!isBusy(failure) || performance.now() + waitMs > deadline) throw failure
    await pause(waitMs, request)
    try {
      return attempt()
    } catch (error) {
      failure = error
    }
  }
}

/** Ends early where the request is called off. */
function pause(ms: number, request: AcquireRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      request.wait = undefined
      resolve()
    }, ms)
    const cancel = (reason: Error) => {
      clearTimeout(timer)
      request.wait = undefined
      reject(reason)
    }
    request.wait = { cancel }
  })
}
