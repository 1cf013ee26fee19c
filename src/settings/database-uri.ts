import type { DatabaseOptions } from "./database-options"
import { hideSecrets } from "./hide-secrets"
import { splitUri, type UriParts, uriError } from "./uri-parts"
import { optionsFromQuery } from "./uri-query"

type ServerType = "postgres" | "cockroachdb" | "mysql" | "mariadb"

const SERVERS: ReadonlyMap<string, { readonly type: ServerType; readonly port: number }> = new Map([
  ["postgres", { type: "postgres", port: 5432 }],
  ["postgresql", { type: "postgres", port: 5432 }],
  ["mysql", { type: "mysql", port: 3306 }],
  ["mariadb", { type: "mariadb", port: 3306 }],
  ["cockroachdb", { type: "cockroachdb", port: 26_257 }],
])

/**
 * Turns a database URI into TypeORM options, without entities. `inspect()` shows them without secrets.
 * @param uri as SQLAlchemy writes it; a driver suffix such as `+psycopg2` is ignored. `sqlite:///x.db` is relative to the
 *   working directory, `sqlite:////x.db` absolute, `sqlite://` in memory.
 * @throws {DatabaseUriError} for an unknown scheme, a malformed URI, a server without a database name, or a known query
 *   parameter with a wrong value; the URI is shown redacted.
 * @see SQLAlchemy 2 `make_url`: same forms; ours refuses what is ambiguous.
 */
export function parseDatabaseUri(uri: string): DatabaseOptions {
  const parts = splitUri(uri)
  const options = parts.scheme === "sqlite" ? sqliteOptions(uri, parts) : serverOptions(uri, parts)
  // The rules for query parameters give each option its type; a table of rules is beyond what the compiler follows.
  return hideSecrets(options as DatabaseOptions)
}

function sqliteOptions(uri: string, parts: UriParts): object {
  if (parts.host !== undefined || parts.port !== undefined || parts.user !== undefined) {
    throw uriError(uri, "needs three slashes in front of a relative file name, four in front of an absolute one")
  }
  const query = optionsFromQuery("better-sqlite3", parts.query, uri)
  const inMemory = parts.path === "" || parts.path === ":memory:"
  if (inMemory) return { type: "better-sqlite3", database: ":memory:", ...query }
  // Switching to WAL writes to the file; on a connection that is read only it fails.
  return { type: "better-sqlite3", database: parts.path, enableWAL: query.readonly !== true, ...query }
}

function serverOptions(uri: string, parts: UriParts): object {
  const server = SERVERS.get(parts.scheme)
  if (server === undefined) throw uriError(uri, `has the unknown scheme "${parts.scheme}"`)
  const { type, port } = server
  if (parts.path === "") throw uriError(uri, "names no database")
  return {
    type,
    host: parts.host ?? "localhost",
    port: parts.port ?? port,
    ...(parts.user !== undefined && { username: parts.user }),
    ...(parts.password !== undefined && { password: parts.password }),
    database: parts.path,
    // TypeORM would otherwise take uuid_generate_v4(), which needs an extension; gen_random_uuid() is built in.
    ...(type === "postgres" && { uuidExtension: "pgcrypto" }),
    ...(type === "cockroachdb" && { timeTravelQueries: false }),
    ...optionsFromQuery(type, parts.query, uri),
  }
}
