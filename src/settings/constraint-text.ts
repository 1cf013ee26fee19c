import type { ValidationError } from "class-validator"

/**
 * What class-validator expects of a property, without its name and without `value`: a message of the application's own
 * may print the value (`$value`), and then the constraint is only named.
 * @param value text of the variable, `undefined` where it is unset
 */
export function constraintText(error: ValidationError, value: string | undefined): string {
  const texts = Object.entries(error.constraints ?? {}).map(([constraint, message]) => {
    const text = message.startsWith(`${error.property} `) ? message.slice(error.property.length + 1) : message
    return value !== undefined && mentions(text, value.trim()) ? `must satisfy ${constraint}` : text
  })
  return texts.length === 0 ? "must be valid" : [...new Set(texts)].join(", ")
}

/** Short values occur in any text by chance (`1` in `10`), so those count as whole words only. */
function mentions(text: string, value: string): boolean {
  const found = text.toLowerCase()
  const searched = [value.toLowerCase(), String(Number(value))].filter((one) => one !== "" && one !== "NaN")
  return searched.some((one) => (one.length > 3 ? found.includes(one) : found.split(/[^a-z0-9.+-]+/).includes(one)))
}
