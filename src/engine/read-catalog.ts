/** A column that the server's catalog confirmed. */
export interface ReadColumn {
  /** Two columns are compared only where this is the same. */
  readonly type: string
  /** Of `OPERATIONS`, those that are the server's own for this type. */
  readonly operators: ReadonlySet<string>
}

export interface ReadCatalog {
  readonly dialect: "postgres" | "mysql"
  /** Columns by name, by the table's path as TypeORM writes it, without quotes. */
  readonly tables: ReadonlyMap<string, ReadonlyMap<string, ReadColumn>>
  /** Of `AGGREGATES`, those that are certainly the server's own. */
  readonly functions: ReadonlySet<string>
  /** The only values that TypeORM writes into a text: what tells apart the entities that share a table. */
  readonly literals: ReadonlySet<string>
}

/** What `LIKE` and the others are called in PostgreSQL's catalog. */
export const COMPARISONS = ["=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~~*", "!~~*"]
/** For what orders or groups rows by itself: `ORDER BY`, `GROUP BY`, `DISTINCT`, `MIN`. */
export const SORT = "sort"
/** In front of a comparison: with a number in the text, which has a type of its own. */
export const NUMBER = "#"
export const OPERATIONS = [SORT, ...COMPARISONS, ...COMPARISONS.map((operator) => NUMBER + operator)]
export const AGGREGATES = ["count", "min", "max", "sum", "avg"] as const
