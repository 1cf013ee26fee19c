import { type StatementLog, splitStatements, verbOf } from "./statement-log"

export interface SqliteLog extends StatementLog {
  /** For the `verbose` option of better-sqlite3, which TypeORM hands on: called with each statement as it runs. */
  readonly verbose: (message?: unknown) => void
}

/**
 * Collects what every better-sqlite3 connection that was opened with its `verbose` callback runs.
 * Parameters stand in the text with their values, as SQLite's own trace has them.
 */
export function createSqliteLog(): SqliteLog {
  let recorded: string[] = []
  return {
    verbose(message) {
      recorded.push(...splitStatements(String(message)))
    },
    statements: () => [...recorded],
    verbs: () => recorded.map(verbOf),
    clear() {
      recorded = []
    },
  }
}
