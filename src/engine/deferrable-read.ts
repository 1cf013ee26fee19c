import type { DataSource } from "typeorm"
import { isPlainSelect } from "./statement"

/**
 * Which reads mean the same without a transaction around them, so that the begin can wait for a statement that needs it.
 *
 * The argument, for PostgreSQL at `READ COMMITTED` (manual, 13.2.1 "Read Committed Isolation Level"): each statement sees a
 * snapshot of its own, taken when it starts, whether other statements of its transaction came before or not. So a
 * transaction of reads sees what the same reads see one by one, unless a statement
 *
 * - locks rows (`FOR UPDATE` and the like), which lasts to the end of the transaction;
 * - calls a function or reads a value that looks at the transaction (`now()`, `CURRENT_TIMESTAMP`, `txid_current()`), writes
 *   or locks;
 * - reads something that does so by itself, as a view may;
 * - depends on what the begin sets: isolation, `READ ONLY`, a statement timeout, `set_config(..., true)`.
 *
 * `isPlainSelect()` refuses the first two by a list of what is known to be harmless; here, only tables that are entities of
 * the `DataSource` and no views are let through; the last is for the caller. What remains different: the `ACCESS SHARE` lock
 * on the table ends with the read, so a change of the schema by others can come between two reads, and `now()` in a later
 * write is the time of that write's begin.
 */
export class DeferrableReads {
  readonly #tables: ReadonlySet<string>
  readonly #known = new Map<string, boolean>()

  constructor(dataSource: DataSource) {
    const tables = dataSource.entityMetadatas.filter(({ tableType }) => tableType !== "view")
    this.#tables = new Set(tables.flatMap(({ tableName, tablePath }) => [tableName, tablePath]))
  }

  has(text: string): boolean {
    const known = this.#known.get(text)
    if (known !== undefined) return known
    const answer = isPlainSelect(text) && this.#readsTablesOnly(text)
    if (this.#known.size >= CACHE_LIMIT) this.#known.clear()
    this.#known.set(text, answer)
    return answer
  }

  #readsTablesOnly(text: string): boolean {
    const bare = text.replace(QUOTED, (quoted) => (quoted[0] === "'" ? "''" : quoted))
    if (TRANSACTION_VALUE.test(bare) || listsTables(bare)) return false
    for (const { 0: whole, 1: source = "", index } of bare.matchAll(SOURCE)) {
      const name = source.replaceAll(/["`]/g, "")
      if (!(source === "(" ? SUBQUERY.test(bare.slice(index + whole.length)) : this.#tables.has(name))) return false
    }
    return true
  }
}

const CACHE_LIMIT = 1_000
/** With the names, so that an apostrophe in one begins no literal. */
const QUOTED = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`/g
/** What follows a parenthesis that holds no join. */
const SUBQUERY = /^[\s(]*select\b/i
/** What stands behind FROM or JOIN: a subquery, or a name with its quotes. */
const SOURCE = /\b(?:from|join)\s+(\(|(?:["`][^"`]+["`]|[\p{L}\p{N}_$]+)(?:\.(?:["`][^"`]+["`]|[\p{L}\p{N}_$]+))*)/giu
/** Values that look at the transaction, and what may stand in front of a table where `SOURCE` does not look for it. */
const TRANSACTION_VALUE =
  /\b(?:current_\w+|localtime|localtimestamp|session_user|user|lateral|tablesample|only|table|straight_join)\b(?!["`.])/i
const QUOTED_NAME = /"(?:[^"]|"")*"|`(?:[^`]|``)*`/g
const TOKEN = /[(),]|\w+/g
const ENDS_FROM = new Set([
  "where",
  "group",
  "having",
  "window",
  "union",
  "intersect",
  "except",
  "order",
  "limit",
  "offset",
  "fetch",
])

/** Whether a FROM clause has a comma, as in `FROM a, b`: the second table is not behind a word to find it by. */
function listsTables(text: string): boolean {
  const inFrom: boolean[] = [false]
  for (const [token] of text.replaceAll(QUOTED_NAME, "q").matchAll(TOKEN)) {
    const last = inFrom.length - 1
    const word = token.toLowerCase()
    if (token === "(") inFrom.push(false)
    else if (token === ")") inFrom.pop()
    else if (token === "," && inFrom[last]) return true
    else if (word === "from") inFrom[last] = true
    else if (ENDS_FROM.has(word)) inFrom[last] = false
  }
  return false
}
