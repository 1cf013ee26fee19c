import type { Difference } from "./difference"
import type { Choices, Replay } from "./replay"
import type { HookRecord, Trace } from "./trace"

type Outcome = "committed" | "rolled back" | "unknown"

/** Compares how often each hook ran with the end of the block or transaction that it was registered in. */
export function hookDifferences(trace: Trace, replay: Replay, choices: Choices): Difference[] {
  return trace.hooks.flatMap((hook) => {
    const expected = hook.isRefused ? "refused" : outcomeFor(hook, replay, choices)
    const complaint = complain(hook, expected)
    return complaint === undefined ? [] : [{ kind: "hook" as const, text: `#${hook.step.id} ${complaint}` }]
  })
}

/** @returns undefined where either is right */
function outcomeFor(hook: HookRecord, replay: Replay, choices: Choices): Outcome | undefined {
  const { calledAt } = hook
  const end = replay.ends.find(({ at, until }) => at > calledAt || until > calledAt)
  const undoing = replay.undoing(hook, choices).at(-1)
  if (undoing) {
    // It was kept already by a COMMIT inside the block, as far as that goes.
    const isKept = replay.ends.some(({ at, until }) => until > calledAt && at < undoing.settledAt)
    return isKept ? undefined : "rolled back"
  }
  // Nothing was begun any more, or it was registered while the transaction ended.
  if (!end || end.from < calledAt || (end.isRaw && !replay.hasBegun(end))) return undefined
  if (replay.unseenEnds.some(({ until }) => until > calledAt)) return undefined
  return choices.ends.has(end) ? "unknown" : end.outcome
}

function complain({ step, calls }: HookRecord, expected: Outcome | "refused" | undefined): string | undefined {
  const ran = `ran ${calls.length === 1 ? "once" : `${calls.length} times`}`
  if (step.on === "completion") {
    const times = expected === "refused" ? 0 : 1
    if (calls.length !== times) return `(after completion) ${ran} instead of ${times === 1 ? "once" : "never"}`
    if (times === 0 || expected === undefined || calls[0] === expected) return undefined
    return `(after completion) was told "${String(calls[0])}" instead of "${expected}"`
  }
  if (expected === undefined) return calls.length > 1 ? `(after ${step.on}) ${ran}` : undefined
  const times = expected === (step.on === "commit" ? "committed" : "rolled back") ? 1 : 0
  if (calls.length === times) return undefined
  return `(after ${step.on}) ${ran} instead of ${times === 1 ? "once" : "never"}: it was ${expected}`
}
