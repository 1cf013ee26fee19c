/** Brings a situation about and says what was seen, in one or several lines. */
export type Scenario = (say: (line: string) => void) => Promise<void>

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** What a promise came to within the time given. */
export function within<T>(ms: number, promise: Promise<T>, show: (value: T) => string): Promise<string> {
  return Promise.race([
    promise.then(show, (error: unknown) => `rejected: ${error instanceof Error ? error.message : String(error)}`),
    pause(ms).then(() => `nothing after ${ms} ms`),
  ])
}

/** How often each value occurs, such as "47 x 200, 3 x 500". */
export function tally(values: readonly (string | number)[]): string {
  const counts = new Map<string | number, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].map(([value, count]) => `${count} x ${value}`).join(", ")
}
