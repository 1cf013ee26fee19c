/** Waits for what must come in time. @returns it, and how long it took; rejects where it takes longer than `ms` */
export async function within<T>(
  ms: number,
  what: string,
  coming: PromiseLike<T>,
): Promise<{ readonly value: T; readonly tookMs: number }> {
  const startedAt = performance.now()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Not within ${ms} ms: ${what}`)), ms)
  })
  try {
    return { value: await Promise.race([coming, late]), tookMs: performance.now() - startedAt }
  } finally {
    clearTimeout(timer)
  }
}
