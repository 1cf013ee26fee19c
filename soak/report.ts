import type { SoakDatabase } from "./database"
import type { BankResult, BankRunOptions } from "./run-bank"

export interface Verdict {
  readonly lost: number
  readonly doubled: number
  readonly leaked: number
  /** 4xx or 503 that is in the ledger, wrong sums, answers that nobody should get, unknown outcomes that are none */
  readonly wrong: number
}

export function verdictOf({ books, leaked, record, wrongUnknowns }: BankResult): Verdict {
  return {
    lost: books.lost.length,
    doubled: books.doubled.length,
    leaked: leaked.length,
    wrong: books.kept.length + record.unexpectedCount + wrongUnknowns.length,
  }
}

export function isClean(verdict: Verdict): boolean {
  return Object.values(verdict).every((count) => count === 0)
}

export function describeVerdict({ lost, doubled, leaked, wrong }: Verdict): string {
  return `lost ${lost}, doubled ${doubled}, leaked ${leaked}, wrong answers ${wrong}`
}

/** A table in Markdown, and what is wrong below it. */
export function printResult(database: SoakDatabase, options: BankRunOptions, result: BankResult): void {
  const { books, record, heap, state, leaked, digest } = result
  const verdict = verdictOf(result)
  const injected = Object.values(record.faults).reduce((sum, times) => sum + times, 0)
  const rows: [string, string | number][] = [
    ["transfers acknowledged (2xx)", books.acknowledged],
    ["transfers refused (4xx, 503, failed by plan)", books.refused],
    ["outcome unknown (500, client gone)", `${books.unknown}, of which ${books.unknownKept} are in the ledger`],
    ["answers 500 because COMMIT was not answered", record.unexplained.length],
    ["COMMITs without an answer, those of reads included", result.unanswered],
    ["reads of the total", `${record.reads}, of which ${record.wrongReads} wrong`],
    ["answers by status", listOf(record.statuses)],
    ["faults injected", injected],
    ...Object.entries(record.faults)
      .sort(([, a], [, b]) => b - a)
      .map(([kind, times]): [string, number] => [`- ${kind}`, times]),
    ["transactions", `${state.committed} committed, ${state.rolledBack} rolled back, ${state.failed} failed`],
    ["actions run again (deadlock, serialization)", state.repeated],
    ["heap after gc at 10 %, 50 %, end", heap.map((bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`).join(", ")],
    ["open, active, waiting sessions", Object.values(state.stats).join(", ")],
    ["**lost**", verdict.lost],
    ["**doubled**", verdict.doubled],
    ["**leaked**", verdict.leaked],
    ["wrong answers", verdict.wrong],
  ]
  const { seed, seconds, clients, resolveCommits } = options
  console.log(`\n### ${database.title}${resolveCommits ? ", resolveCommits" : ""}, seed ${seed}\n`)
  console.log(`${seconds} s, ${clients} clients, plan ${digest}\n`)
  console.log("| what | figure |\n| --- | --- |")
  for (const [what, figure] of rows) console.log(`| ${what} | ${figure} |`)
  console.log(`\nReported to the application: ${listOf(state.reported) || "nothing"}`)
  printList("Lost", books.lost)
  printList("Doubled", books.doubled)
  printList("Leaked", leaked)
  printList("In the ledger, and should not be", books.kept)
  printList("Wrong answers", record.unexpected)
  printList("Wrong unknowns", result.wrongUnknowns)
  if (verdict.wrong > 0) printList("Errors that the application was told of", state.unforeseen)
}

function printList(title: string, items: readonly string[]): void {
  if (items.length === 0) return
  console.log(`\n${title}:`)
  for (const item of items.slice(0, 20)) console.log(`- ${item}`)
  if (items.length > 20) console.log(`- and ${items.length - 20} more`)
}

function listOf(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${name}: ${count}`)
    .join(", ")
}
