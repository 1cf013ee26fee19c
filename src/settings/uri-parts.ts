import { DatabaseUriError } from "../errors"
import { redactUri } from "./redact-uri"

/** A database URI taken apart, percent-decoded. Parts that are absent are `undefined`. */
export interface UriParts {
  /** lower case, without a driver suffix */
  readonly scheme: string
  readonly user: string | undefined
  readonly password: string | undefined
  /** without the brackets of an IPv6 address */
  readonly host: string | undefined
  readonly port: number | undefined
  /** after the first slash behind the host: `/x.db` for `sqlite:////x.db` */
  readonly path: string
  readonly query: ReadonlyMap<string, string>
}

export const ACCEPTED_SCHEMES =
  "sqlite:///file.db, sqlite:////absolute/file.db, sqlite:// (in memory), postgres://, postgresql://, mysql://, " +
  "mariadb://, cockroachdb://, each server with host and database name as in postgres://user@host:5432/app"

const SCHEME = /^([a-z][a-z0-9]*)(?:\+[a-z0-9_]+)?:\/\//i

/**
 * Takes a URI apart without interpreting it. An unencoded `@ : #` in a password is understood; an unencoded `/` or `?`
 * would change the meaning of the rest and is refused.
 * @throws {DatabaseUriError} when the text is no URI; the URI is shown redacted.
 */
export function splitUri(uri: string): UriParts {
  if (typeof uri !== "string" || uri.trim() === "") throw new DatabaseUriError(explain("The database URI is empty."))
  const scheme = SCHEME.exec(uri)
  if (scheme?.[1] === undefined) throw uriError(uri, "has no scheme followed by ://")
  const rest = uri.slice(scheme[0].length)
  const authorityEnd = rest.search(/[/?]/)
  const authority = authorityEnd === -1 ? rest : rest.slice(0, authorityEnd)
  const afterAuthority = authorityEnd === -1 ? "" : rest.slice(authorityEnd)
  const at = authority.lastIndexOf("@")
  // It may be the end of a password that holds a / or ?; taken for a path it would be shown as one.
  if (scheme[1].toLowerCase() !== "sqlite" && afterAuthority.includes("@")) {
    throw uriError(uri, "has an @ behind the host; percent-encode / as %2F, ? as %3F and @ as %40 in its parts")
  }
  const mark = afterAuthority.indexOf("?")
  const path = mark === -1 ? afterAuthority : afterAuthority.slice(0, mark)
  return {
    scheme: scheme[1].toLowerCase(),
    ...splitUserInfo(at === -1 ? undefined : authority.slice(0, at)),
    ...splitHost(uri, authority.slice(at + 1)),
    path: percentDecode(path.slice(1)),
    query: splitQuery(mark === -1 ? "" : afterAuthority.slice(mark + 1)),
  }
}

/** The error for `uri`, which `problem` describes without repeating any part of it. */
export function uriError(uri: string, problem: string): DatabaseUriError {
  return new DatabaseUriError(explain(`The database URI ${redactUri(uri)} ${problem}.`))
}

function explain(problem: string): string {
  return `${problem} Accepted are ${ACCEPTED_SCHEMES}.`
}

function splitUserInfo(text: string | undefined): Pick<UriParts, "user" | "password"> {
  if (text === undefined) return { user: undefined, password: undefined }
  const colon = text.indexOf(":")
  if (colon === -1) return { user: nonEmpty(percentDecode(text)), password: undefined }
  return { user: nonEmpty(percentDecode(text.slice(0, colon))), password: percentDecode(text.slice(colon + 1)) }
}

function splitHost(uri: string, text: string): Pick<UriParts, "host" | "port"> {
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^:[\]]*))(?::(\d*))?$/i.exec(text)
  if (match === null) {
    throw uriError(uri, "has a host or port that cannot be read; a port is digits, an IPv6 address is in [brackets]")
  }
  const port = match[3] === undefined || match[3] === "" ? undefined : Number(match[3])
  if (port !== undefined && (port < 1 || port > 65_535)) throw uriError(uri, "has a port outside 1 to 65535")
  return { host: match[1] ?? nonEmpty(percentDecode(match[2] ?? "")), port }
}

function splitQuery(text: string): ReadonlyMap<string, string> {
  const query = new Map<string, string>()
  for (const parameter of text.split("&")) {
    if (parameter === "") continue
    const equals = parameter.indexOf("=")
    const name = equals === -1 ? parameter : parameter.slice(0, equals)
    query.set(percentDecode(name), equals === -1 ? "true" : percentDecode(parameter.slice(equals + 1)))
  }
  return query
}

/** A `%` that begins no valid escape is taken literally, as Python's `unquote` does. */
function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function nonEmpty(text: string): string | undefined {
  return text === "" ? undefined : text
}
