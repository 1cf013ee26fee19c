import { COMPARISONS, NUMBER, type ReadCatalog, type ReadColumn, SORT } from "./read-catalog"
import { Refusal, TokenReader } from "./sql-tokens"

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
  readonly #text: TokenReader

  constructor(text: string, catalog: ReadCatalog) {
    this.#catalog = catalog
    this.#text = new TokenReader(text, catalog.dialect)
  }

  parse(): void {
    this.#select(undefined)
    if (!this.#text.isAtEnd) this.#text.refuse("the end")
  }

  #select(parent: Scope | undefined): Columns {
    this.#text.expectWord("SELECT")
    const scope: Scope = { parent, sources: new Map(), checks: [] }
    const isDistinct = this.#text.takeWord("DISTINCT")
    if (isDistinct && this.#text.takeWord("ON")) this.#text.inParentheses(() => this.#sorted(scope))
    const items = [this.#item(scope)]
    while (this.#text.takeSymbol(",")) items.push(this.#item(scope))
    this.#text.expectWord("FROM")
    this.#source(scope)
    while (this.#text.takeSymbol(",")) this.#source(scope)
    this.#joins(scope)
    const outputs = this.#outputs(scope, items, isDistinct)
    if (this.#text.takeWord("WHERE")) this.#condition(scope)
    if (this.#text.takeWords("GROUP", "BY")) this.#sorted(scope)
    if (this.#text.takeWords("ORDER", "BY")) this.#order(scope, outputs)
    if (this.#text.takeWord("LIMIT")) this.#text.expect("number")
    if (this.#text.takeWord("OFFSET")) this.#text.expect("number")
    for (const check of scope.checks) check()
    return outputs
  }

  #item(scope: Scope): Item {
    const token = this.#text.peek()
    if (token?.kind === "name") {
      const reference = this.#reference()
      return { reference, name: this.#outputName() ?? reference.column }
    }
    if (token?.kind === "word") this.#aggregate(scope)
    else if (this.#text.expect("number") !== "1") this.#text.refuse("1")
    const name = this.#outputName()
    return name === undefined ? {} : { name }
  }

  #outputName(): string | undefined {
    return this.#text.takeWord("AS") ? this.#text.name() : undefined
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
    const name = this.#text.expect("word").toLowerCase()
    if (!this.#catalog.functions.has(name)) throw new Refusal(`${name}() is not known to be the server's own`)
    this.#text.expectSymbol("(", "directly")
    if (name !== "count") this.#sortedReference(scope)
    else if (this.#text.takeWord("DISTINCT")) this.#distinctReferences(scope)
    else if (!this.#text.takeSymbol("*")) this.#counted(scope)
    this.#text.expectSymbol(")")
  }

  #counted(scope: Scope): void {
    if (this.#text.peek()?.kind === "name") this.#check(scope, this.#reference(), [])
    else if (this.#text.expect("number") !== "1") this.#text.refuse("1")
  }

  #distinctReferences(scope: Scope): void {
    if (this.#text.peek()?.value === "(") this.#text.inParentheses(() => this.#sorted(scope))
    else this.#sorted(scope)
  }

  #source(scope: Scope): void {
    const isSubquery = this.#text.peek()?.value === "("
    const columns = isSubquery ? this.#text.inParentheses(() => this.#subquery()) : this.#table()
    const alias = this.#text.name()
    if (scope.sources.has(alias)) throw new Refusal(`"${alias}" is declared twice`)
    scope.sources.set(alias, columns)
  }

  /** `exists()` reads from `(SELECT 1 AS dummy_column) "dummy_table"`, the one name that TypeORM does not quote. */
  #subquery(): Columns {
    if (this.#text.peek(3)?.value !== "DUMMY_COLUMN") return this.#select(undefined)
    this.#text.expectWord("SELECT")
    if (this.#text.expect("number") !== "1") this.#text.refuse("1")
    this.#text.expectWord("AS")
    this.#text.expectWord("DUMMY_COLUMN")
    return new Map()
  }

  #table(): Columns {
    const parts = [this.#text.name()]
    while (this.#text.takeSymbol(".")) parts.push(this.#text.name())
    const path = parts.join(".")
    const columns = parts.some((part) => part.includes(".")) ? undefined : this.#catalog.tables.get(path)
    if (columns === undefined) throw new Refusal(`"${path}" is not known to be an ordinary table of an entity`)
    return columns
  }

  #joins(scope: Scope): void {
    while (this.#text.takeWord("LEFT") || this.#text.takeWord("INNER")) {
      this.#text.expectWord("JOIN")
      const isNested = this.#text.peek()?.value === "(" && this.#text.peek(1)?.kind === "name"
      if (isNested) {
        this.#text.inParentheses(() => {
          this.#source(scope)
          this.#joins(scope)
        })
      } else {
        this.#source(scope)
      }
      if (this.#text.takeWord("ON")) this.#condition(scope)
    }
  }

  #condition(scope: Scope): void {
    do this.#term(scope)
    while (this.#text.takeWord("AND") || this.#text.takeWord("OR"))
  }

  #term(scope: Scope): void {
    const isNegated = this.#text.takeWord("NOT")
    if (this.#text.takeWord("EXISTS")) this.#text.inParentheses(() => this.#select(scope))
    else if (isNegated || this.#text.peek()?.value === "(") this.#text.inParentheses(() => this.#condition(scope))
    else this.#predicate(scope)
  }

  #predicate(scope: Scope): void {
    const left = this.#operand(scope)
    if (this.#text.takeWord("IS")) {
      this.#text.takeWord("NOT")
      this.#text.expectWord("NULL")
      this.#check(scope, left, [])
      return
    }
    if (this.#text.peek()?.kind === "symbol") {
      const symbol = this.#text.expect("symbol")
      this.#compare(scope, left, symbol === "!=" ? "<>" : symbol)
      return
    }
    const operators = this.#text.takeWord("NOT") ? NEGATED : PLAIN
    const word = this.#text.expect("word")
    const needed = Object.hasOwn(operators, word) ? operators[word] : undefined
    if (needed === undefined) throw new Refusal(`${word} is no comparison that is known`)
    this.#check(scope, left, needed)
    if (word === "IN") {
      this.#text.inParentheses(() => {
        do this.#value(scope, left, needed)
        while (this.#text.takeSymbol(","))
      })
      return
    }
    this.#value(scope, left, needed)
    if (word !== "BETWEEN") return
    this.#text.expectWord("AND")
    this.#value(scope, left, needed)
  }

  #compare(scope: Scope, left: Reference, operator: string): void {
    if (!COMPARISONS.includes(operator)) throw new Refusal(`${operator} is no comparison`)
    this.#check(scope, left, [operator])
    if (this.#text.peek()?.kind === "name") {
      const right = this.#reference()
      this.#check(scope, right, [operator])
      scope.checks.push(() => {
        if (resolve(scope, left).type === resolve(scope, right).type) return
        throw new Refusal(`"${left.column}" and "${right.column}" are of different types`)
      })
    } else if (this.#catalog.dialect === "postgres" && operator === "=" && this.#text.takeWord("ANY")) {
      this.#text.inParentheses(() => this.#text.expect("parameter"))
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
    this.#text.expectSymbol(")")
    return reference
  }

  #value(scope: Scope, left: Reference, operators: readonly string[]): void {
    if (this.#takeUpper()) {
      this.#text.expect("parameter")
      this.#text.expectSymbol(")")
    } else if (this.#text.peek()?.kind === "literal") {
      const literal = this.#text.expect("literal")
      if (!this.#catalog.literals.has(literal)) throw new Refusal(`'${literal}' tells no entities of a table apart`)
    } else if (this.#text.peek()?.kind === "number") {
      this.#text.expect("number")
      this.#check(
        scope,
        left,
        operators.map((operator) => NUMBER + operator),
      )
    } else {
      this.#text.expect("parameter")
    }
  }

  #takeUpper(): boolean {
    if (this.#catalog.dialect !== "mysql" || !this.#text.takeWord("UPPER")) return false
    this.#text.expectSymbol("(", "directly")
    return true
  }

  #order(scope: Scope, outputs: Columns): void {
    do {
      if (this.#text.peek(1)?.value === ".") this.#sortedReference(scope)
      else this.#orderByOutput(scope, outputs)
      if (!this.#text.takeWord("ASC")) this.#text.takeWord("DESC")
      if (this.#text.takeWord("NULLS") && !this.#text.takeWord("FIRST")) this.#text.expectWord("LAST")
    } while (this.#text.takeSymbol(","))
  }

  /** A name alone: of this selection, or of the subquery that is its only source, as in `take()` with a join. */
  #orderByOutput(scope: Scope, outputs: Columns): void {
    const name = this.#text.name()
    const [source, ...others] = scope.sources.values()
    const column = outputs.get(name) ?? (others.length === 0 ? source?.get(name) : undefined)
    if (column === undefined) throw new Refusal(`"${name}" is no column of the selection`)
    assertOperators(column, [SORT], name)
  }

  #sorted(scope: Scope): void {
    do this.#sortedReference(scope)
    while (this.#text.takeSymbol(","))
  }

  #sortedReference(scope: Scope): void {
    this.#check(scope, this.#reference(), [SORT])
  }

  #check(scope: Scope, reference: Reference, operators: readonly string[]): void {
    scope.checks.push(() => assertOperators(resolve(scope, reference), operators, reference.column))
  }

  #reference(): Reference {
    const alias = this.#text.name()
    this.#text.expectSymbol(".")
    return { alias, column: this.#text.name() }
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
