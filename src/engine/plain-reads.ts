import type { DataSource } from "typeorm"
import { type CatalogQuestion, mysqlAnswer, mysqlQuestion, postgresAnswer, postgresQuestion } from "./catalog-question"
import { refusalOfSelect } from "./plain-select"
import type { ReadCatalog } from "./read-catalog"

/**
 * Which statements mean the same without a transaction around them, so that the begin can wait for one that needs it.
 *
 * The argument, for PostgreSQL at `READ COMMITTED` (manual, 13.2.1): each statement sees a snapshot of its own, taken when it
 * starts, whether other statements of its transaction came before or not. InnoDB's consistent reads do the same there. So a
 * transaction of reads sees what the same reads see one by one, unless a statement locks, writes, looks at its transaction,
 * or runs code of which nobody knows what it does. Texts are not searched for what would be wrong: only a text that
 * `refusalOfSelect()` knows to be right is one, of tables and columns that both the entities' metadata and the server's
 * catalog know, with operators and functions that are the server's own. All else depends on what the begin sets (isolation,
 * `READ ONLY`, time out, variables), and is for the caller.
 *
 * What remains different: the lock on the table ends with the read, so a change of the schema by others can come between two
 * reads, and `now()` in a later write is the time of that write's begin. What the catalog said is not asked again: a table
 * that becomes a view while the program runs is taken for a table until the next start.
 */
export class PlainReads {
  readonly #tables: ReadonlyMap<string, ReadonlySet<string>>
  readonly #literals: ReadonlySet<string>
  readonly #dialect: ReadCatalog["dialect"] | undefined
  readonly #known = new Map<string, boolean>()
  #catalog: ReadCatalog | undefined

  /** @param dataSource asked for its metadata only */
  constructor(dataSource: DataSource) {
    const tables = new Map<string, Set<string>>()
    const literals = new Set<string>()
    for (const { tableType, tablePath, columns, discriminatorValue } of dataSource.entityMetadatas) {
      if (tableType === "view") continue
      if (discriminatorValue !== undefined) literals.add(discriminatorValue)
      // Entities of one hierarchy share a table.
      const names = tables.get(tablePath) ?? new Set()
      for (const { databaseName, isVirtualProperty } of columns) if (!isVirtualProperty) names.add(databaseName)
      tables.set(tablePath, names)
    }
    this.#tables = tables
    this.#literals = literals
    this.#dialect = dialectOf(dataSource)
  }

  /**
   * What to ask the server at the start, of the connection's own role and `search_path`; its rows are for `learn()`.
   * @returns `undefined` where nothing is to be asked, and no text is ever a plain read
   */
  get question(): CatalogQuestion | undefined {
    if (this.#dialect === undefined || this.#tables.size === 0) return undefined
    const paths = [...this.#tables.keys()]
    return this.#dialect === "postgres" ? postgresQuestion(paths) : mysqlQuestion(paths)
  }

  /** Before it, and after rows of another form, no text is a plain read. */
  learn(rows: readonly unknown[]): void {
    this.#known.clear()
    if (this.#dialect === undefined) return
    const answer = this.#dialect === "postgres" ? postgresAnswer : mysqlAnswer
    this.#catalog = { ...answer(this.#tables, rows), literals: this.#literals }
  }

  /** @param parameters as the driver gets them: some mean more than a value, and those that are no list are not known */
  has(text: string, parameters: unknown): boolean {
    const isValue = this.#dialect === "mysql" ? isMysqlValue : isPostgresValue
    if (parameters != null && !(Array.isArray(parameters) && parameters.every(isValue))) return false
    const known = this.#known.get(text)
    if (known !== undefined) return known
    if (text.length > LONGEST_TEXT) return false
    const answer = this.refusalOf(text) === undefined
    if (this.#known.size >= CACHE_LIMIT) this.#known.clear()
    this.#known.set(text, answer)
    return answer
  }

  /** For whoever wonders why a read is not put off. */
  refusalOf(text: string): string | undefined {
    if (this.#catalog === undefined) return "the server's catalog is not known"
    return refusalOfSelect(text, this.#catalog)
  }
}

const CACHE_LIMIT = 1_000
const LONGEST_TEXT = 10_000

/** Of CockroachDB little is known here, and its own default is `SERIALIZABLE`, where nothing can be put off. */
function dialectOf({ options: { type } }: DataSource): ReadCatalog["dialect"] | undefined {
  if (type === "postgres") return "postgres"
  return type === "mysql" || type === "mariadb" ? "mysql" : undefined
}

/** mysql2 writes an object that has `toSqlString()` into the text as it is, wherever in a list it stands. */
function isMysqlValue(value: unknown): boolean {
  return typeof value !== "object" || value === null || value instanceof Date || Buffer.isBuffer(value)
}

/** For a column that is a time, PostgreSQL reads `now` as the begin of the transaction. */
function isPostgresValue(value: unknown): boolean {
  if (typeof value === "string") return !TIME_OF_TRANSACTION.test(value)
  if (Array.isArray(value)) return value.every(isPostgresValue)
  return typeof value !== "object" || value === null || !("toPostgres" in value)
}

const TIME_OF_TRANSACTION = /\b(?:now|today|tomorrow|yesterday)\b/i
