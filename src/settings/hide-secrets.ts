import { type InspectOptions, inspect } from "node:util"
import { redactUri } from "./redact-uri"
import { isSecretName, REDACTED } from "./secret-names"

/** The parts of a TypeORM `DataSource` that hold secrets. */
interface SecretHolder {
  readonly options: object
  readonly driver: { readonly options: object }
}

type Inspect = (value: unknown, options?: InspectOptions) => string

/**
 * Makes `inspect()` and `console.log()` show `options` without passwords, keys and tokens. The options themselves stay
 * as they are and are returned; the `DataSource` made from them, whose `options` they are, is covered too. Idempotent.
 */
export function hideSecrets<Options extends object>(options: Options): Options {
  return inspectAs(options, (self) => maskOptions(self as Record<string, unknown>))
}

/**
 * Does `hideSecrets()` for all that a `DataSource` holds, initialised or not. TypeORM's MySQL driver works with a copy of
 * the options (typeorm 1.1.1 `MysqlDriver`) and mysql2's pool keeps the password, so the driver is shown by type only.
 * Idempotent.
 */
export function hideDataSourceSecrets<Source extends SecretHolder>(dataSource: Source): Source {
  hideSecrets(dataSource.options)
  hideSecrets(dataSource.driver.options)
  inspectAs(dataSource.driver, (driver) => ({ type: Reflect.get(driver.options, "type") }))
  return dataSource
}

/** Gives `target` a look of its own in `inspect()`; a frozen one or one that has it already is left as it is. */
function inspectAs<Target extends object>(target: Target, view: (target: Target) => object): Target {
  if (Object.hasOwn(target, inspect.custom) || !Object.isExtensible(target)) return target
  return Object.defineProperty(target, inspect.custom, {
    enumerable: false,
    value(this: Target, depth: number, options: InspectOptions, inspectWith: Inspect): string {
      const name = target.constructor === Object ? "" : `${target.constructor.name} `
      return name + inspectWith(view(target), { ...options, depth })
    },
  })
}

function maskOptions(options: Record<string, unknown>): Record<string, unknown> {
  const masked = maskNames(options)
  for (const [name, value] of Object.entries(options)) {
    if (name === "key") masked[name] = REDACTED
    else if (name === "url" && typeof value === "string") masked[name] = redactUri(value)
    else if (name === "ssl" || name === "extra" || name === "cache") masked[name] = maskDeep(value)
    else if (name === "replication" && isPlain(value)) masked[name] = maskReplication(value)
  }
  return masked
}

function maskReplication(replication: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(replication).map(([name, value]) => {
      if (Array.isArray(value)) return [name, value.map((one) => (isPlain(one) ? maskOptions(one) : one))]
      return [name, isPlain(value) ? maskOptions(value) : value]
    }),
  )
}

/** Options of the driver nest; entities and loggers do not come this way, so the walk is short. */
function maskDeep(value: unknown, depth = 0): unknown {
  if (typeof value === "string") return value.includes("://") ? redactUri(value) : value
  if (!isPlain(value) || depth > 4) return value
  const masked = maskNames(value)
  for (const [name, inner] of Object.entries(masked))
    masked[name] = name === "key" ? REDACTED : maskDeep(inner, depth + 1)
  return masked
}

function maskNames(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      return [name, value !== undefined && value !== null && isSecretName(name) ? REDACTED : value]
    }),
  )
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
