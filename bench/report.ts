import { keyOf, type Metric, median } from "./measurements"
import { isMet, measured, type Samples } from "./rounds"
import type { Goal, Row } from "./rows"
import { VARIANTS, type VariantName, type Work } from "./variants"

const NAMES: Readonly<Record<Metric, string>> = {
  cpuMicros: "CPU",
  perSecond: "requests/s",
  busy: "busy",
  latencyMs: "response time",
  coldStartMs: "time",
  retainedBytes: "heap",
}

const UNITS: Partial<Readonly<Record<Metric, string>>> = { cpuMicros: " µs", coldStartMs: " ms", retainedBytes: " B" }

/** The table, filled: Markdown. */
export function reachTable(rows: readonly Row[], samples: Samples): string {
  const lines = rows.flatMap((row) =>
    row.goals.map((goal) => {
      const value = measured(row, goal, samples)
      const met = isMet(goal, value) ? "met" : "**not met**"
      return [row.work, row.against, describeGoal(goal), describeValue(goal, value), met]
    }),
  )
  return table(["work", "against", "goal", "measured", ""], lines)
}

/** What every server did under load: medians of the rounds. `traces` has what one request sends to the database. */
export function loadTable(samples: Samples, traces: ReadonlyMap<string, readonly string[]>): string {
  const lines = [...samples.keys()].flatMap((key) => {
    const [kind, variant, work] = key.split(" ") as [string, VariantName, Work]
    if (kind !== "throughput") return []
    const base = samples.get(keyOf({ kind, variant: baseOf(variant), work })) ?? []
    const own = (samples.get(key) ?? []).map((sample) => sample.cpuMicros ?? Number.NaN)
    const ratio = median(own.map((cpuMicros, round) => cpuMicros / (base[round]?.cpuMicros ?? Number.NaN)))
    const { title, database } = VARIANTS[variant]
    return [
      [
        `${work}${database === "sqlite" ? " (SQLite)" : ""}`,
        title,
        median(own).toFixed(1),
        Number.isNaN(ratio) ? "" : ratio.toFixed(2),
        medianOf(samples, key, "perSecond").toFixed(0),
        `${(medianOf(samples, key, "busy") * 100).toFixed(0)} %`,
        traces.get(key)?.join("; ") ?? "",
      ],
    ]
  })
  lines.sort(([a = ""], [b = ""]) => a.localeCompare(b))
  const head = ["work", "server", "CPU µs", "of by hand", "requests/s", "server's core busy", "writes to the database"]
  return table(head, lines)
}

/** What the other kinds gave: medians of the rounds. */
export function otherTable(samples: Samples): string {
  const lines = [...samples].flatMap(([key]) => {
    const [kind = "", variant = "", work = ""] = key.split(" ")
    const [metric, unit] = OTHER[kind] ?? []
    if (metric === undefined) return []
    const { title } = VARIANTS[variant as VariantName]
    return [[kind, work, title, `${medianOf(samples, key, metric).toFixed(1)} ${unit}`]]
  })
  return table(["what", "work", "server", "median"], lines)
}

const OTHER: Readonly<Record<string, readonly [Metric, string]>> = {
  latency: ["latencyMs", "ms"],
  coldStart: ["coldStartMs", "ms"],
  retained: ["retainedBytes", "B"],
}

function baseOf(variant: VariantName): VariantName {
  return VARIANTS[variant].database === "sqlite" ? "sqliteByHand" : "byHand"
}

function medianOf(samples: Samples, key: string, metric: Metric): number {
  return median((samples.get(key) ?? []).map((sample) => sample[metric] ?? Number.NaN))
}

function describeGoal({ metric, as, atMost, atLeast }: Goal): string {
  const sign = as === "difference" ? " +" : ""
  return `${NAMES[metric]}${sign} ${atMost === undefined ? "≥" : "≤"} ${atMost ?? atLeast}${as === "ratio" ? "" : UNITS[metric]}`
}

/** @returns "0.93", "+ 12.3 µs" or "1834 B" */
export function describeValue({ metric, as }: Goal, value: number): string {
  if (as === "ratio") return value.toFixed(3)
  const unit = UNITS[metric] ?? ""
  if (as === "value") return `${value.toFixed(0)}${unit}`
  return `${value < 0 ? "−" : "+"} ${Math.abs(value).toFixed(1)}${unit}`
}

/** Names one goal of one row, in the baseline, too. */
export function nameOf({ work, against }: Row, { metric }: Goal): string {
  return `${work} / ${against}: ${NAMES[metric]}`
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`
  return [row(head), row(head.map(() => "---")), ...lines.map(row)].join("\n")
}
