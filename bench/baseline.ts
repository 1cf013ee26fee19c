import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { repositoryTop } from "../spec/support/sources"
import { nameOf } from "./report"
import { measured, type Samples } from "./rounds"
import type { Goal, Row } from "./rows"

/** How much worse than the baseline is a regression; less is the noise of a short run. */
const TOLERANCE = 0.15
const FILE = join(repositoryTop, "bench", "baseline.json")

/** Ratios that the short form measured, by the name of their row; kept in the repository. */
export type Baseline = Readonly<Record<string, number>>

/** What is compared with the baseline: one number of a row, free of the machine's speed. The lower, the better. */
export interface Check {
  readonly name: string
  readonly row: Row
  readonly goal: Goal
}

export interface Regression {
  readonly check: Check
  readonly value: number
  readonly baseline: number
}

export function checksOf(rows: readonly Row[]): Check[] {
  return rows.flatMap((row) => {
    const [goal] = row.goals
    if (goal === undefined) return []
    const relative: Goal = row.base ? { metric: goal.metric, as: "ratio" } : goal
    return [{ name: nameOf(row, relative), row, goal: relative }]
  })
}

export function readBaseline(): Baseline {
  return existsSync(FILE) ? (JSON.parse(readFileSync(FILE, "utf8")) as Baseline) : {}
}

export function writeBaseline(checks: readonly Check[], samples: Samples): void {
  const entries = checks.map(({ name, row, goal }) => [name, Number(measured(row, goal, samples).toPrecision(3))])
  writeFileSync(FILE, `${JSON.stringify(Object.fromEntries(entries), undefined, 2)}\n`)
}

/** The checks that are worse than the baseline by more than `TOLERANCE`. One that the baseline does not know passes. */
export function findRegressions(checks: readonly Check[], samples: Samples, baseline: Baseline): Regression[] {
  return checks.flatMap((check) => {
    const stored = baseline[check.name]
    const value = measured(check.row, check.goal, samples)
    return stored === undefined || value <= stored * (1 + TOLERANCE) ? [] : [{ check, value, baseline: stored }]
  })
}

export function describeRegression({ check, value, baseline }: Regression): string {
  const percent = ((value / baseline - 1) * 100).toFixed(0)
  return `${check.name}: ${value.toPrecision(3)}, where the baseline has ${baseline}: ${percent} % worse`
}
