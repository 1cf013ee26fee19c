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
const COMPARISONS = ["=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~~*", "!~~*"]
/** For what orders or groups rows by itself: `ORDER BY`, `GROUP BY`, `DISTINCT`, `MIN`. */
const SORT = "sort"
/** In front of a comparison: with a number in the text, which has a type of its own. */
const NUMBER = "#"
export const OPERATIONS = [SORT, ...COMPARISONS, ...COMPARISONS.map((operator) => NUMBER + operator)]
export const AGGREGATES = ["count", "min", "max", "sum", "avg"] as const

/**
 * Why a text is not known to be a plain read; `undefined` where it is one.
 *
 * Accepts the `SELECT` that TypeORM 1.1.1's `SelectQueryBuilder` makes of find options, and nothing else: what is not in this
 * grammar is refused, whatever it may mean. A name counts only with the alias in front of it, and only where the alias stands
 * for a table and the column is one of its columns: in PostgreSQL `"j"."claim"` calls the function `claim(job)` where the
 * table has no such column, and `"j"` alone may be a whole row that is handed to a function.
 */
export function refusalOfSelect(text: string, catalog: ReadCatalog): string | undefined {
  try {
    new SelectParser(text, catalog).parse()
    return undefined
  } catch (error) {
    if (error instanceof Refusal) return error.message
    throw error
  }
}

class Refusal extends Error {}

type TokenKind = "name" | "word" | "number" | "literal" | "parameter" | "symbol"

interface Token {
  readonly kind: TokenKind
  /** Without quotes; words in capitals. */
  readonly value: string
  readonly follows: "directly" | "after a blank"
}

/**
 * Each token with what may stand beside it, so that nothing is split elsewhere than the server splits it: `"a""b"` is one
 * name, `E'a'` no literal, `10FOR` two words, `=<` one operator, `$1a` two tokens in some releases. Blanks are blanks alone:
 * TypeORM writes no other. No token holds a quote, a backslash, a control character or a comment's beginning.
 */
const TOKENS = {
  postgres: tokenPattern('"', String.raw`\$\d{1,5}`),
  mysql: tokenPattern("`", String.raw`\?`),
}
const KINDS = ["name", "word", "number", "literal", "parameter", "symbol"] as const

function tokenPattern(quote: string, parameter: string): RegExp {
  const tokens = [
    `(?<=[ (.=<>])${quote}([\\p{L}\\p{M}\\p{N}_$ .-]+)${quote}(?=[ .,)=<>!]|$)`,
    "(?<=[ (]|^)([A-Za-z_]+)(?=[ (),]|$)",
    "(?<=[ (])(\\d{1,15})(?=[ ),]|$)",
    "(?<=[ (=])'([A-Za-z0-9_ .-]*)'(?=[ ),]|$)",
    `(?<=[ (=<>])(${parameter})(?=[ ),]|$)`,
    `([(),]|(?<=${quote})\\.(?=${quote})|(?<=\\()\\*(?=\\))|(?<![=<>!])(?:<=|>=|!=|<>|=|<|>)(?![=<>!]))`,
  ]
  return new RegExp(`( *)(?:${tokens.join("|")})`, "uy")
}

function tokenize(text: string, pattern: RegExp): Token[] {
  const tokens: Token[] = []
  const end = text.replace(/ +$/, "").length
  let index = 0
  while (index < end) {
    pattern.lastIndex = index
    const match = pattern.exec(text)
    if (match === null) throw new Refusal(`nothing that is known at character ${index}`)
    const [whole, blank, ...groups] = match
    const group = groups.findIndex((value) => value !== undefined)
    const value = groups[group] as string
    const kind = KINDS[group] as TokenKind
    tokens.push({
      kind,
      value: kind === "word" ? value.toUpperCase() : value,
      follows: blank === "" ? "directly" : "after a blank",
    })
    index += whole.length
  }
  return tokens
}

type Columns = ReadonlyMap<string, ReadColumn>

interface Reference {
  readonly alias: string
  readonly column: string
}

interface Scope {
  /** Of the statement around an `EXISTS`. */
  readonly parent: Scope | undefined
  readonly sources: Map<string, Columns>
  /** What the selection says is checked when `FROM` has told what its names mean. */
  readonly checks: (() => void)[]
}

interface Item {
  readonly reference?: Reference
  readonly name?: string
}

/** Longest nesting: an application's `Brackets` are a few deep, and the parser's own stack has an end. */
const MAX_DEPTH = 50
/** Longer identifiers are cut by PostgreSQL, so two of them may be one. */
const MAX_NAME_BYTES = 63
/** Of something that is shown and never compared. */
const SHOWN: ReadColumn = { type: "", operators: new Set() }
const NEGATED: Readonly<Record<string, readonly string[]>> = {
  IN: ["<>"],
  LIKE: ["!~~"],
  ILIKE: ["!~~*"],
  BETWEEN: ["<", ">"],
}
const PLAIN: Readonly<Record<string, readonly string[]>> = {
  IN: ["="],
  LIKE: ["~~"],
  ILIKE: ["~~*"],
  BETWEEN: [">=", "<="],
}

class SelectParser {
  readonly #catalog: ReadCatalog
  readonly #tokens: readonly Token[]
  #next = 0
  #depth = 0

  constructor(text: string, catalog: ReadCatalog) {
    this.#catalog = catalog
    this.#tokens = tokenize(text, TOKENS[catalog.dialect])
  }

  parse(): void {
    this.#select(undefined)
    if (this.#next < this.#tokens.length) this.#refuse("the end")
  }

  #select(parent: Scope | undefined): Columns {
    this.#enter()
    this.#expectWord("SELECT")
    const scope: Scope = { parent, sources: new Map(), checks: [] }
    const isDistinct = this.#takeWord("DISTINCT")
    if (isDistinct && this.#takeWord("ON")) this.#inParentheses(() => this.#sorted(scope))
    const items = [this.#item(scope)]
    while (this.#takeSymbol(",")) items.push(this.#item(scope))
    this.#expectWord("FROM")
    this.#source(scope)
    while (this.#takeSymbol(",")) this.#source(scope)
    this.#joins(scope)
    const outputs = this.#outputs(scope, items, isDistinct)
    if (this.#takeWord("WHERE")) this.#condition(scope)
    if (this.#takeWords("GROUP", "BY")) this.#sorted(scope)
    if (this.#takeWords("ORDER", "BY")) this.#order(scope, outputs)
    if (this.#takeWord("LIMIT")) this.#expect("number")
    if (this.#takeWord("OFFSET")) this.#expect("number")
    for (const check of scope.checks) check()
    this.#depth -= 1
    return outputs
  }

  #item(scope: Scope): Item {
    const token = this.#peek()
    if (token?.kind === "name") {
      const reference = this.#reference()
      return { reference, name: this.#outputName() ?? reference.column }
    }
    if (token?.kind === "word") this.#aggregate(scope)
    else if (this.#expect("number") !== "1") this.#refuse("1")
    const name = this.#outputName()
    return name === undefined ? {} : { name }
  }

  #outputName(): string | undefined {
    return this.#takeWord("AS") ? this.#name() : undefined
  }

  #outputs(scope: Scope, items: readonly Item[], isDistinct: boolean): Columns {
    const outputs = new Map<string, ReadColumn>()
    for (const { reference, name } of items) {
      const column = reference ? resolve(scope, reference) : SHOWN
      if (isDistinct) assertOperators(column, [SORT], name ?? "?")
      if (name !== undefined) outputs.set(name, column)
    }
    return outputs
  }

  #aggregate(scope: Scope): void {
    const name = this.#expect("word").toLowerCase()
    if (!this.#catalog.functions.has(name)) throw new Refusal(`${name}() is not known to be the server's own`)
    this.#expectSymbol("(", "directly")
    if (name !== "count") this.#sortedReference(scope)
    else if (this.#takeWord("DISTINCT")) this.#distinctReferences(scope)
    else if (!this.#takeSymbol("*")) this.#counted(scope)
    this.#expectSymbol(")")
  }

  #counted(scope: Scope): void {
    if (this.#peek()?.kind === "name") this.#check(scope, this.#reference(), [])
    else if (this.#expect("number") !== "1") this.#refuse("1")
  }

  #distinctReferences(scope: Scope): void {
    if (this.#peek()?.value === "(") this.#inParentheses(() => this.#sorted(scope))
    else this.#sorted(scope)
  }

  #source(scope: Scope): void {
    if (this.#takeSymbol("(")) {
      const columns = this.#subquery()
      this.#expectSymbol(")")
      this.#declare(scope, columns)
    } else {
      this.#declare(scope, this.#table())
    }
  }

  #subquery(): Columns {
    if (!this.#takeDummy()) return this.#select(undefined)
    return new Map()
  }

  /** `exists()` reads from `(SELECT 1 AS dummy_column) "dummy_table"`, the one name that TypeORM does not quote. */
  #takeDummy(): boolean {
    const values = this.#tokens.slice(this.#next, this.#next + 4).map(({ value }) => value)
    if (values.join(" ") !== "SELECT 1 AS DUMMY_COLUMN") return false
    this.#next += 4
    return true
  }

  #table(): Columns {
    const parts = [this.#name()]
    while (this.#takeSymbol(".")) parts.push(this.#name())
    const path = parts.join(".")
    const columns = parts.some((part) => part.includes(".")) ? undefined : this.#catalog.tables.get(path)
    if (columns === undefined) throw new Refusal(`"${path}" is not known to be an ordinary table of an entity`)
    return columns
  }

  #declare(scope: Scope, columns: Columns): void {
    const alias = this.#name()
    if (scope.sources.has(alias)) throw new Refusal(`"${alias}" is declared twice`)
    scope.sources.set(alias, columns)
  }

  #joins(scope: Scope): void {
    while (this.#takeWord("LEFT") || this.#takeWord("INNER")) {
      this.#expectWord("JOIN")
      const isNested = this.#peek()?.value === "(" && this.#peek(1)?.kind === "name"
      if (isNested) {
        this.#inParentheses(() => {
          this.#source(scope)
          this.#joins(scope)
        })
      } else {
        this.#source(scope)
      }
      if (this.#takeWord("ON")) this.#condition(scope)
    }
  }

  #condition(scope: Scope): void {
    do this.#term(scope)
    while (this.#takeWord("AND") || this.#takeWord("OR"))
  }

  #term(scope: Scope): void {
    const isNegated = this.#takeWord("NOT")
    if (this.#takeWord("EXISTS")) this.#inParentheses(() => this.#select(scope))
    else if (isNegated || this.#peek()?.value === "(") this.#inParentheses(() => this.#condition(scope))
    else this.#predicate(scope)
  }

  #predicate(scope: Scope): void {
    const left = this.#operand(scope)
    if (this.#takeWord("IS")) {
      this.#takeWord("NOT")
      this.#expectWord("NULL")
      this.#check(scope, left, [])
      return
    }
    const { kind, value } = this.#peek() ?? {}
    if (kind === "symbol") {
      this.#next += 1
      this.#compare(scope, left, value === "!=" ? "<>" : (value ?? ""))
      return
    }
    const operators = this.#takeWord("NOT") ? NEGATED : PLAIN
    const word = this.#expect("word")
    const needed = Object.hasOwn(operators, word) ? operators[word] : undefined
    if (needed === undefined) throw new Refusal(`${word} is no comparison that is known`)
    this.#check(scope, left, needed)
    if (word === "IN") {
      this.#inParentheses(() => {
        do this.#value(scope, left, needed)
        while (this.#takeSymbol(","))
      })
      return
    }
    this.#value(scope, left, needed)
    if (word !== "BETWEEN") return
    this.#expectWord("AND")
    this.#value(scope, left, needed)
  }

  #compare(scope: Scope, left: Reference, operator: string): void {
    if (!COMPARISONS.includes(operator)) throw new Refusal(`${operator} is no comparison`)
    this.#check(scope, left, [operator])
    if (this.#peek()?.kind === "name") {
      const right = this.#reference()
      this.#check(scope, right, [operator])
      scope.checks.push(() => {
        if (resolve(scope, left).type === resolve(scope, right).type) return
        throw new Refusal(`"${left.column}" and "${right.column}" are of different types`)
      })
    } else if (this.#catalog.dialect === "postgres" && operator === "=" && this.#takeWord("ANY")) {
      this.#inParentheses(() => this.#expect("parameter"))
    } else {
      this.#value(scope, left, [operator])
    }
  }

  /**
   * A column; on MySQL also `UPPER(column)`, for `ILike()`: there a function of the server is found before one that somebody
   * stored under the same name (manual, 11.2.5 "Function Name Parsing and Resolution").
   */
  #operand(scope: Scope): Reference {
    if (!this.#takeUpper()) return this.#reference()
    const reference = this.#reference()
    this.#check(scope, reference, [])
    this.#expectSymbol(")")
    return reference
  }

  #value(scope: Scope, left: Reference, operators: readonly string[]): void {
    if (this.#takeUpper()) {
      this.#expect("parameter")
      this.#expectSymbol(")")
    } else if (this.#peek()?.kind === "literal") {
      const literal = this.#expect("literal")
      if (!this.#catalog.literals.has(literal)) throw new Refusal(`'${literal}' tells no entities of a table apart`)
    } else if (this.#peek()?.kind === "number") {
      this.#next += 1
      this.#check(
        scope,
        left,
        operators.map((operator) => NUMBER + operator),
      )
    } else {
      this.#expect("parameter")
    }
  }

  #takeUpper(): boolean {
    if (this.#catalog.dialect !== "mysql" || !this.#takeWord("UPPER")) return false
    this.#expectSymbol("(", "directly")
    return true
  }

  #order(scope: Scope, outputs: Columns): void {
    do {
      if (this.#peek(1)?.value === ".") this.#sortedReference(scope)
      else this.#orderByOutput(scope, outputs)
      if (!this.#takeWord("ASC")) this.#takeWord("DESC")
      if (this.#takeWord("NULLS") && !this.#takeWord("FIRST")) this.#expectWord("LAST")
    } while (this.#takeSymbol(","))
  }

  /** A name alone: of this selection, or of the subquery that is its only source, as in `take()` with a join. */
  #orderByOutput(scope: Scope, outputs: Columns): void {
    const name = this.#name()
    const [source, ...others] = scope.sources.values()
    const column = outputs.get(name) ?? (others.length === 0 ? source?.get(name) : undefined)
    if (column === undefined) throw new Refusal(`"${name}" is no column of the selection`)
    assertOperators(column, [SORT], name)
  }

  #sorted(scope: Scope): void {
    do this.#sortedReference(scope)
    while (this.#takeSymbol(","))
  }

  #sortedReference(scope: Scope): void {
    this.#check(scope, this.#reference(), [SORT])
  }

  #check(scope: Scope, reference: Reference, operators: readonly string[]): void {
    scope.checks.push(() => assertOperators(resolve(scope, reference), operators, reference.column))
  }

  #reference(): Reference {
    const alias = this.#name()
    this.#expectSymbol(".")
    return { alias, column: this.#name() }
  }

  #name(): string {
    const name = this.#expect("name")
    if (Buffer.byteLength(name) > MAX_NAME_BYTES) throw new Refusal(`"${name}" is longer than a name can be`)
    return name
  }

  #inParentheses(parse: () => void): void {
    this.#enter()
    this.#expectSymbol("(")
    parse()
    this.#expectSymbol(")")
    this.#depth -= 1
  }

  #enter(): void {
    this.#depth += 1
    if (this.#depth > MAX_DEPTH) throw new Refusal("nested too deep")
  }

  #peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#next + ahead]
  }

  #expect(kind: TokenKind): string {
    const token = this.#peek()
    if (token?.kind !== kind) return this.#refuse(`a ${kind}`)
    this.#next += 1
    return token.value
  }

  #expectWord(word: string): void {
    if (!this.#takeWord(word)) this.#refuse(word)
  }

  #expectSymbol(symbol: string, follows?: Token["follows"]): void {
    if (follows !== undefined && this.#peek()?.follows !== follows) this.#refuse(`${symbol} ${follows}`)
    if (!this.#takeSymbol(symbol)) this.#refuse(symbol)
  }

  #takeWords(first: string, second: string): boolean {
    if (!this.#takeWord(first)) return false
    this.#expectWord(second)
    return true
  }

  #takeWord(word: string): boolean {
    return this.#take("word", word)
  }

  #takeSymbol(symbol: string): boolean {
    return this.#take("symbol", symbol)
  }

  #take(kind: TokenKind, value: string): boolean {
    const token = this.#peek()
    if (token?.kind !== kind || token.value !== value) return false
    this.#next += 1
    return true
  }

  #refuse(expected: string): never {
    throw new Refusal(`${this.#peek()?.value ?? "the end"} where ${expected} is expected`)
  }
}

/** The nearest statement that declares the alias has the word, as in SQL. */
function resolve(scope: Scope, { alias, column }: Reference): ReadColumn {
  let declaring: Scope | undefined = scope
  while (declaring && !declaring.sources.has(alias)) declaring = declaring.parent
  const known = declaring?.sources.get(alias)?.get(column)
  if (known === undefined) throw new Refusal(`"${alias}"."${column}" is no column that is known`)
  return known
}

function assertOperators(column: ReadColumn, operators: readonly string[], name: string): void {
  const missing = operators.find((operator) => !column.operators.has(operator))
  if (missing !== undefined) throw new Refusal(`${missing} on "${name}" is not known to be the server's own`)
}
