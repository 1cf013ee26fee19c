import { isSecretName } from "./secret-names"
import { uriError } from "./uri-parts"

type Value = string | number | boolean
/** Options of TypeORM that a query parameter turns into. */
type Options = Record<string, unknown>
type Rule = (value: string, uri: string) => Options

const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  "1": true,
  yes: true,
  on: true,
  false: false,
  "0": false,
  no: false,
  off: false,
}

const poolSize: Rule = (value, uri) => ({ poolSize: wholeNumber("poolSize", value, uri) })

const COMMON: Readonly<Record<string, Rule>> = {
  user: (username) => ({ username }),
  password: (password) => ({ password }),
  poolSize,
  pool_size: poolSize,
}

function isTrue(name: string, value: string, uri: string): boolean {
  const found = BOOLEANS[value.toLowerCase()]
  if (found === undefined) throw uriError(uri, `needs true or false for the parameter "${name}"`)
  return found
}

function wholeNumber(name: string, value: string, uri: string): number {
  if (!/^\d{1,9}$/.test(value)) throw uriError(uri, `needs a whole number for the parameter "${name}"`)
  return Number(value)
}

/** A certificate behind a file name would have to be read here; unread it would be silently without effect. */
const sslFile: Rule = (_value, uri) => {
  throw uriError(uri, "names a certificate or key file; give it as the option ssl: { ca, cert, key } instead")
}

const POSTGRES: Readonly<Record<string, Rule>> = {
  ...COMMON,
  host: (host) => ({ host }),
  port: (value, uri) => ({ port: wholeNumber("port", value, uri) }),
  ssl: (value, uri) => ({ ssl: isTrue("ssl", value, uri) }),
  sslmode(value, uri) {
    if (value === "disable") return { ssl: false }
    // libpq tries both ways for these two; the driver cannot, and without a demand for encryption plain is allowed.
    if (value === "allow" || value === "prefer") return {}
    if (value === "require" || value === "no-verify") return { ssl: { rejectUnauthorized: false } }
    if (value === "verify-ca" || value === "verify-full") return { ssl: true }
    throw uriError(uri, 'needs disable, allow, prefer, require, verify-ca or verify-full for the parameter "sslmode"')
  },
  sslrootcert: sslFile,
  sslcert: sslFile,
  sslkey: sslFile,
  application_name: (applicationName) => ({ applicationName }),
  applicationName: (applicationName) => ({ applicationName }),
  schema: (schema) => ({ schema }),
  connect_timeout: (value, uri) => ({ connectTimeoutMS: wholeNumber("connect_timeout", value, uri) * 1000 }),
}

const MYSQL: Readonly<Record<string, Rule>> = {
  ...COMMON,
  // mysql2 refuses `ssl: true`; an empty object asks for a verified connection.
  ssl: (value, uri) => (isTrue("ssl", value, uri) ? { ssl: {} } : {}),
  charset: (charset) => ({ charset }),
  timezone: (timezone) => ({ timezone }),
  socketPath: (socketPath) => ({ socketPath }),
  unix_socket: (socketPath) => ({ socketPath }),
  connect_timeout: (value, uri) => ({ connectTimeout: wholeNumber("connect_timeout", value, uri) * 1000 }),
}

const SQLITE: Readonly<Record<string, Rule>> = {
  timeout: (value, uri) => ({ timeout: wholeNumber("timeout", value, uri) }),
  readonly: (value, uri) => ({ readonly: isTrue("readonly", value, uri) }),
  fileMustExist: (value, uri) => ({ fileMustExist: isTrue("fileMustExist", value, uri) }),
}

const RULES = { postgres: POSTGRES, cockroachdb: POSTGRES, mysql: MYSQL, mariadb: MYSQL, "better-sqlite3": SQLITE }

/**
 * Turns query parameters into TypeORM options: those it has a name for at the top level, the rest as numbers, booleans or
 * text in `extra`, which goes to the driver as it is.
 * @throws {DatabaseUriError} for a known parameter with a value that it cannot have.
 */
export function optionsFromQuery(
  type: keyof typeof RULES,
  query: ReadonlyMap<string, string>,
  uri: string,
): Record<string, unknown> {
  const options: Options = {}
  const extra: Record<string, Value> = {}
  const rules = new Map(Object.entries(RULES[type]))
  for (const [name, value] of query) {
    const rule = rules.get(name)
    if (rule !== undefined) Object.assign(options, rule(value, uri))
    else if (name !== "__proto__") extra[name] = isSecretName(name) ? value : converted(value)
  }
  return Object.keys(extra).length === 0 ? options : { ...options, extra }
}

/** Numbers that would not read back as written (leading zeros, too many digits) stay text. */
function converted(value: string): Value {
  if (value === "true" || value === "false") return value === "true"
  return /^-?\d+(\.\d+)?$/.test(value) && String(Number(value)) === value ? Number(value) : value
}
