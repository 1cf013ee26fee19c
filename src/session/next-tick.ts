let tick: Promise<void> | undefined

/**
 * Resolves when every promise that can go on without input or output has done so: Node calls the functions of `nextTick()` when
 * no microtask is left. One promise for all that ask in the same tick.
 */
export function nextTick(): Promise<void> {
  tick ??= new Promise((resolve) => {
    process.nextTick(() => {
      tick = undefined
      resolve()
    })
  })
  return tick
}
