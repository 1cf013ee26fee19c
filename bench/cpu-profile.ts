/** Reads what `node --cpu-prof` wrote. @see the Chrome DevTools Protocol, "Profiler.Profile" */

interface ProfileNode {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
}

export interface CpuProfile {
  readonly nodes: readonly ProfileNode[]
  readonly startTime: number
  readonly samples: readonly number[]
  /** µs since the sample before */
  readonly timeDeltas: readonly number[]
}

/** µs that the function itself took. */
export interface SelfTime {
  readonly group: string
  /** function, file and line */
  readonly place: string
  readonly micros: number
}

/**
 * Self times, the longest first, without idling.
 * @param skipMicros leaves out what was sampled before, such as the start and the warming up
 */
export function selfTimes({ nodes, samples, timeDeltas }: CpuProfile, skipMicros: number): SelfTime[] {
  const byId = new Map(nodes.map((node) => [node.id, node.callFrame]))
  const byPlace = new Map<string, { group: string; place: string; micros: number }>()
  let at = 0
  for (const [index, id] of samples.entries()) {
    // The time up to the next sample is what this one stands for.
    const micros = Math.max(0, timeDeltas[index + 1] ?? 0)
    at += Math.max(0, timeDeltas[index] ?? 0)
    const frame = byId.get(id)
    if (frame === undefined || at < skipMicros || frame.functionName === "(idle)") continue
    const place = describe(frame)
    const known = byPlace.get(place)
    if (known) known.micros += micros
    else byPlace.set(place, { group: groupOf(frame.url, frame.functionName), place, micros })
  }
  return [...byPlace.values()].sort((a, b) => b.micros - a.micros)
}

/** Sums of the groups, the greatest first. */
export function groupTimes(times: readonly SelfTime[]): { readonly group: string; readonly micros: number }[] {
  const sums = new Map<string, number>()
  for (const { group, micros } of times) sums.set(group, (sums.get(group) ?? 0) + micros)
  return [...sums].map(([group, micros]) => ({ group, micros })).sort((a, b) => b.micros - a.micros)
}

function describe({ functionName, url, lineNumber }: ProfileNode["callFrame"]): string {
  const name = functionName === "" ? "(anonymous)" : functionName
  const file = url.replace(/^.*\/node_modules\//, "").replace(/^.*\/dist\//, "")
  return file === "" ? name : `${name} ${file}:${lineNumber + 1}`
}

/** A package, "this library", "the bench's server", "node", or "V8 and system calls" for what has no source. */
function groupOf(url: string, functionName: string): string {
  if (functionName === "(garbage collector)") return "garbage collector"
  const inPackage = /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1]
  if (inPackage !== undefined) return inPackage
  if (url.startsWith("node:")) return "node"
  if (url.includes("/dist/src/")) return "this library"
  return url === "" ? "V8 and system calls" : "the bench's server"
}
