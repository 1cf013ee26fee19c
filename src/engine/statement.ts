const cache = new Map<string, boolean>()
const CACHE_LIMIT = 1_000

/**
 * Words that may stand in front of a parenthesis in a plain read: SQL's own, and functions that every supported database
 * defines as free of side effects. A name that is not here may be anything, so a statement that calls it counts as a write.
 */
const HARMLESS_BEFORE_PARENTHESIS = new Set(
  (
    "select from where and or not in exists any all some on as by having union intersect except case when then else between " +
    "like ilike is distinct values join using over partition filter limit offset cast " +
    "count sum min max avg coalesce nullif greatest least lower upper length char_length trim ltrim rtrim substr substring " +
    "replace abs round floor ceil ceiling concat concat_ws extract date strftime ifnull year month day"
  ).split(" "),
)

/** Without those that hold a backslash: where such a literal ends is not the same in every database. */
const QUOTED = /'(?:[^'\\]|'')*'|"(?:[^"\\]|"")*"|`(?:[^`\\]|``)*`/g
const FORBIDDEN = /;|--|\/\*|#|\$(?!\d)|\\|\s\.|\.\s|\binto\b|\bfor\b|\block\b|\bprocedure\b|:=/i
/** A name with a schema in front of it starts with the dot, or holds it, and so is none of the harmless ones. */
const CALL = /([\p{L}_.][\p{L}\p{N}_$.]*|["'`\]])\s*\(/giu

/**
 * Whether a statement reads, as far as its text tells: a `SELECT` without locking clause or `INTO`, and with no function but the
 * known harmless ones. A view or a function in attribute notation can hide a write from it, so that nothing that must be true
 * hangs on it: only whether a statement whose client has left is stopped. `PlainReads` knows more, and of less.
 */
export function isPlainSelect(text: string): boolean {
  const known = cache.get(text)
  if (known !== undefined) return known
  const answer = classify(text)
  if (cache.size >= CACHE_LIMIT) cache.clear()
  cache.set(text, answer)
  return answer
}

function classify(text: string): boolean {
  if (!/^\s*\(*\s*select\b/i.test(text)) return false
  const bare = text.replace(QUOTED, (quoted) => (quoted[0] === "'" ? "''" : '""')).replace(/;\s*$/, "")
  if (FORBIDDEN.test(bare)) return false
  for (const [, name = ""] of bare.matchAll(CALL)) {
    if (!HARMLESS_BEFORE_PARENTHESIS.has(name.toLowerCase())) return false
  }
  return true
}

/** Whether it is a query: what it calls may write all the same. */
export function isQuery(text: string): boolean {
  return /^\s*\(*\s*(?:select|values|table|show)\b/i.test(text)
}
