/** Why a text is none that is known. */
export class Refusal extends Error {}

export type TokenKind = "name" | "word" | "number" | "literal" | "parameter" | "symbol"

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

/** Longest nesting: an application's `Brackets` are a few deep, and the parser's own stack has an end. */
const MAX_DEPTH = 50
/** Longer identifiers are cut by PostgreSQL, so two of them may be one. */
const MAX_NAME_BYTES = 63

/** A text's tokens, taken from the front. What expects something refuses the text where it is not there. */
export class TokenReader {
  readonly #tokens: readonly Token[]
  #next = 0
  #depth = 0

  constructor(text: string, dialect: keyof typeof TOKENS) {
    this.#tokens = tokenize(text, TOKENS[dialect])
  }

  get isAtEnd(): boolean {
    return this.#next >= this.#tokens.length
  }

  name(): string {
    const name = this.expect("name")
    if (Buffer.byteLength(name) > MAX_NAME_BYTES) throw new Refusal(`"${name}" is longer than a name can be`)
    return name
  }

  inParentheses<T>(parse: () => T): T {
    this.#depth += 1
    if (this.#depth > MAX_DEPTH) throw new Refusal("nested too deep")
    this.expectSymbol("(")
    const parsed = parse()
    this.expectSymbol(")")
    this.#depth -= 1
    return parsed
  }

  peek(ahead = 0): Token | undefined {
    return this.#tokens[this.#next + ahead]
  }

  expect(kind: TokenKind): string {
    const token = this.peek()
    if (token?.kind !== kind) return this.refuse(`a ${kind}`)
    this.#next += 1
    return token.value
  }

  expectWord(word: string): void {
    if (!this.takeWord(word)) this.refuse(word)
  }

  expectSymbol(symbol: string, follows?: Token["follows"]): void {
    if (follows !== undefined && this.peek()?.follows !== follows) this.refuse(`${symbol} ${follows}`)
    if (!this.takeSymbol(symbol)) this.refuse(symbol)
  }

  takeWords(first: string, second: string): boolean {
    if (!this.takeWord(first)) return false
    this.expectWord(second)
    return true
  }

  takeWord(word: string): boolean {
    return this.#take("word", word)
  }

  takeSymbol(symbol: string): boolean {
    return this.#take("symbol", symbol)
  }

  #take(kind: TokenKind, value: string): boolean {
    const token = this.peek()
    if (token?.kind !== kind || token.value !== value) return false
    this.#next += 1
    return true
  }

  refuse(expected: string): never {
    throw new Refusal(`${this.peek()?.value ?? "the end"} where ${expected} is expected`)
  }
}
