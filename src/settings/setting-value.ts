import type { SettingType } from "./setting-properties"

const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["1", true],
  ["yes", true],
  ["on", true],
  ["false", false],
  ["0", false],
  ["no", false],
  ["off", false],
])

/** What a variable of each type must look like, for error messages. */
export const EXPECTED: Readonly<Record<SettingType, string>> = {
  string: "text",
  number: "a number",
  boolean: "true or false (also 1/0, yes/no, on/off)",
  bigint: "a whole number",
  date: "a date in ISO 8601 form",
  list: "a list separated by commas",
}

/** Converts the text of a variable; `undefined` when it does not fit the type. */
export function convertSetting(type: SettingType, text: string): unknown {
  const trimmed = text.trim()
  switch (type) {
    case "number":
      return trimmed === "" || !Number.isFinite(Number(trimmed)) ? undefined : Number(trimmed)
    case "boolean":
      return BOOLEANS.get(trimmed.toLowerCase())
    case "bigint":
      return /^[+-]?\d+$/.test(trimmed) ? BigInt(trimmed) : undefined
    case "date": {
      const date = new Date(trimmed)
      return Number.isNaN(date.getTime()) ? undefined : date
    }
    case "list":
      return trimmed
        .split(",")
        .map((item) => item.trim())
        .filter((item) => item !== "")
    case "string":
      return text
  }
}

/** `databaseUri` -> `DATABASE_URI`, `httpURL` -> `HTTP_URL`, `s3Bucket` -> `S3_BUCKET`. */
export function variableName(prefix: string, property: string): string {
  const snake = property.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/([A-Z]+)([A-Z][a-z])/g, "$1_$2")
  return prefix + snake.toUpperCase()
}
