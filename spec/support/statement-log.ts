/** What a database was really sent, as seen below TypeORM: on the wire, or by the driver's own trace. */
export interface StatementLog {
  /** SQL text in the order sent; several statements of one message are separate entries. */
  statements(): string[]
  /** The same as `verbOf()` each: `["BEGIN", "INSERT", "COMMIT"]`. */
  verbs(): string[]
  clear(): void
}

/** Splits at every `;`, also inside a literal: good enough for the statements of specs. */
export function splitStatements(sql: string): string[] {
  return sql
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "")
}

/** First word in upper case; `START TRANSACTION` is a `BEGIN`, and `ROLLBACK TO` is told from `ROLLBACK`. */
export function verbOf(statement: string): string {
  const words = statement
    .replace(/\/\*[\s\S]*?\*\//g, " ")
    .replace(/--.*$/gm, " ")
    .trim()
    .toUpperCase()
  if (/^START\s+TRANSACTION\b/.test(words)) return "BEGIN"
  if (/^ROLLBACK\s+(WORK\s+|TRANSACTION\s+)?TO\b/.test(words)) return "ROLLBACK TO"
  return /^\w+/.exec(words)?.[0] ?? words
}
