import { isSecretName, REDACTED } from "./secret-names"

/** `name=value` of a libpq connection string, the value bare or in quotes. */
const KEYWORD_PAIR = /([\w.-]+)(\s*=\s*)('(?:[^'\\]|\\.)*'?|"[^"]*"?|[^\s&;]*)/g

/**
 * Replaces the password of a database URI, and secrets in its query parameters, by `***`. Never throws. Where a password
 * was not percent-encoded and its end is in doubt, more is hidden rather than less: everything from the first `:` of the
 * user information to the last `@` of the whole text.
 * @param uri any text; what is no URI is searched for `user:password@` and for `password=...` all the same
 */
export function redactUri(uri: string): string {
  if (typeof uri !== "string") return REDACTED
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(uri)?.[0] ?? ""
  return scheme + redactQuery(redactUserInfo(uri.slice(scheme.length)))
}

function redactUserInfo(text: string): string {
  const colon = text.indexOf(":")
  const lastAt = text.lastIndexOf("@")
  if (colon !== -1 && colon < lastAt) return `${text.slice(0, colon + 1)}${REDACTED}${text.slice(lastAt)}`
  if (lastAt !== -1) return text
  // No `@` at all: `user:password/db` with the host forgotten. A port is digits; anything else may be the password.
  return text.replace(/^([^:/?#[\]]+):(?!\d{1,5}(?:[/?]|$))([^/?]+)(?=[/?]|$)/, `$1:${REDACTED}`)
}

function redactQuery(text: string): string {
  const mark = text.indexOf("?")
  if (mark === -1) return redactKeywords(text)
  let insideSecret = false
  const parameters = text.slice(mark + 1).split(/([&;])/)
  const redacted = parameters.map((parameter) => {
    if (parameter === "&" || parameter === ";") return parameter
    const equals = parameter.indexOf("=")
    // An unencoded `&` inside a password makes its rest look like a parameter without a value.
    if (equals === -1) return insideSecret && parameter !== "" ? REDACTED : parameter
    insideSecret = isSecretName(decoded(parameter.slice(0, equals)))
    return insideSecret ? parameter.slice(0, equals + 1) + REDACTED : parameter
  })
  return `${redactKeywords(text.slice(0, mark))}?${redacted.join("")}`
}

function redactKeywords(text: string): string {
  return text.replace(KEYWORD_PAIR, (pair, name: string, equals: string) =>
    isSecretName(name) ? name + equals + REDACTED : pair,
  )
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    // Not valid percent-encoding: then the name is what is written.
    return text
  }
}
