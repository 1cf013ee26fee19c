import { type Linked, LinkedList } from "./linked-list"

/** What is to have come by a certain time. */
export interface Due extends Linked {
  /** ms on the clock of `performance.now()`, 0 while it is not watched; written here */
  dueAt: number
  /** Called once, when the time is over; it is no longer watched then. */
  overdue(): void
}

const watched = new LinkedList<Due>()
/** One timer for all, for the first deadline: one for each would cost every statement. */
let timer: NodeJS.Timeout | undefined
let timerEndsAt = Number.POSITIVE_INFINITY

/** @param due not watched yet; `unwatch()` it when it has come */
export function watch(due: Due, ms: number): void {
  due.dueAt = performance.now() + ms
  // The timer alone is no reason for the process to live on, but whoever waits for it is.
  if (watched.size === 0) timer?.ref()
  watched.push(due)
  wakeAt(due.dueAt)
}

/** Does nothing for what is not watched, or not any more. */
export function unwatch(due: Due): void {
  if (due.dueAt === 0) return
  due.dueAt = 0
  watched.remove(due)
  if (watched.size === 0) timer?.unref()
}

function wakeAt(at: number): void {
  if (at >= timerEndsAt) return
  clearTimeout(timer)
  timerEndsAt = at
  timer = setTimeout(check, Math.max(1, Math.ceil(at - performance.now())))
}

function check(): void {
  timer = undefined
  timerEndsAt = Number.POSITIVE_INFINITY
  const now = performance.now()
  for (const due of watched.all()) {
    if (due.dueAt > now) wakeAt(due.dueAt)
    else {
      due.dueAt = 0
      watched.remove(due)
      due.overdue()
    }
  }
}
