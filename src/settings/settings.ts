import { type InspectOptions, inspect } from "node:util"
import { validateSync } from "class-validator"
import { SettingsError } from "../errors"
import { constraintText } from "./constraint-text"
import { redactUri } from "./redact-uri"
import { isSecretName, REDACTED } from "./secret-names"
import { type SettingProperty, settingProperties } from "./setting-properties"
import { convertSetting, EXPECTED, variableName } from "./setting-value"

/** What `load()` reads: `process.env`, or any record of the same shape. */
export type Environment = Readonly<Record<string, string | undefined>>

type SettingsClass<T extends Settings> = (new () => T) & { readonly prefix?: string | undefined }

/** The text of the variables that are set, by the name of their property. */
type Given = ReadonlyMap<string, string>

/** What is wrong with each setting at fault, by the name of its property; never holds a value. */
type Problems = Map<string, string>

/**
 * Base of a class whose properties are read from the environment: `databaseUri` from `DATABASE_URI`. Decorate each
 * property with class-validator; an initialiser is the default, `@IsOptional()` lets a setting be absent, and a getter
 * computes one from others. `inspect()` shows neither passwords nor the secrets of URIs.
 * @see pydantic `BaseSettings`: same reading and validating at once; ours reads only when asked to, and prints no values.
 * @example
 * class MailSettings extends Settings {
 *   static override prefix = "MAIL_"
 *   @IsString() host!: string // MAIL_HOST, must be set
 *   @IsInt() port = 25 // MAIL_PORT
 * }
 * const { host, port } = MailSettings.load()
 */
export abstract class Settings {
  /** Put in front of every variable's name as it is, such as `"APP_"`. Default none. */
  static prefix?: string

  /**
   * Reads, converts and validates every setting. Nothing is cached: each call reads anew. An empty variable counts as
   * unset. Numbers, booleans, dates and comma-separated lists are converted by the declared type.
   * @throws {SettingsError} naming every missing or invalid variable; no value is printed.
   */
  static load<T extends Settings>(this: SettingsClass<T>, env: Environment = process.env): T {
    // biome-ignore lint/complexity/noThisInStatic: the subclass that load() is called on decides what is read
    return loadSettings(this, env)
  }

  [inspect.custom](depth: number, options: InspectOptions): string {
    const shown = Object.entries(this).map(([name, value]: [string, unknown]) => {
      if (value !== undefined && isSecretName(name)) return [name, REDACTED]
      return [name, typeof value === "string" && value.includes(":") ? redactUri(value) : value]
    })
    return `${this.constructor.name} ${inspect(Object.fromEntries(shown), { ...options, depth })}`
  }
}

function loadSettings<T extends Settings>(settingsClass: SettingsClass<T>, env: Environment): T {
  const settings = new settingsClass()
  const properties = settingProperties(settings)
  const variable = ({ name }: SettingProperty): string => variableName(settingsClass.prefix ?? "", name)
  const given: Given = new Map(
    properties
      .filter(({ computed }) => !computed)
      .map((property): [string, string] => [property.name, env[variable(property)] ?? ""])
      .filter(([, text]) => text.trim() !== ""),
  )
  const problems = assignAll(settings, properties, given)
  const faults = properties
    .filter(({ name }) => problems.has(name))
    .map((property) => ({
      variable: property.computed ? `${property.name} (computed)` : variable(property),
      text: problems.get(property.name) ?? "",
    }))
  if (faults.length > 0) throw settingsError(settingsClass.name, faults)
  return settings
}

function assignAll(settings: Settings, properties: readonly SettingProperty[], given: Given): Problems {
  const problems: Problems = new Map()
  for (const { name, type } of properties) {
    const text = given.get(name)
    if (text === undefined) continue
    const value = convertSetting(type, text)
    if (value === undefined) problems.set(name, `is invalid: must be ${EXPECTED[type]}`)
    else Reflect.set(settings, name, value)
  }
  const fields = properties.filter(({ computed }) => !computed)
  addInvalid(problems, settings, fields, given)
  // A getter is asked last: it would only stumble over the settings that are missing already.
  if (problems.size === 0 && fields.length < properties.length) addInvalid(problems, settings, properties, given)
  return problems
}

function addInvalid(
  problems: Problems,
  settings: Settings,
  properties: readonly SettingProperty[],
  given: Given,
): void {
  const values = new Map(properties.map(({ name }) => [name, Reflect.get(settings, name) as unknown]))
  const errors = new Map(validateValues(settings, values).map((error) => [error.property, error]))
  for (const { name, type, computed, validated } of properties) {
    if (problems.has(name)) continue
    const error = errors.get(name)
    const isMissing = values.get(name) === undefined && !computed
    if (error === undefined && isMissing && !validated) problems.set(name, `is missing: must be ${EXPECTED[type]}`)
    if (error === undefined) continue
    // A default or a getter's result comes from the program, and must not be printed either.
    const text = given.get(name) ?? (values.get(name) === undefined ? undefined : String(values.get(name)))
    problems.set(name, `${isMissing ? "is missing" : "is invalid"}: ${constraintText(error, text)}`)
  }
}

/** Validates a stand-in whose own values hide the getters of the class, so that the validator calls none. */
function validateValues(settings: Settings, values: ReadonlyMap<string, unknown>): ReturnType<typeof validateSync> {
  const standIn: object = Object.create(Object.getPrototypeOf(settings))
  for (const { name } of settingProperties(settings)) {
    Object.defineProperty(standIn, name, { value: values.get(name), enumerable: true })
  }
  return validateSync(standIn, { forbidUnknownValues: false })
}

function settingsError(className: string, faults: readonly { variable: string; text: string }[]): SettingsError {
  const lines = faults.map(({ variable, text }) => `  ${variable} ${text}`)
  const count = faults.length === 1 ? "1 environment variable is" : `${faults.length} environment variables are`
  return new SettingsError(
    `${className}: ${count} missing or invalid. Set in the environment:\n${lines.join("\n")}`,
    faults.map(({ variable }) => variable),
  )
}
