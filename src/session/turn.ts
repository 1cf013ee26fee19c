let turn: Promise<void> | undefined

/** Resolves in the next turn of the event loop; one promise for all that ask in the same turn. */
export function nextTurn(): Promise<void> {
  turn ??= new Promise((resolve) => {
    setImmediate(() => {
      turn = undefined
      resolve()
    })
  })
  return turn
}
