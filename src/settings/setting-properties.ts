import { getMetadataStorage } from "class-validator"

export type SettingType = "string" | "number" | "boolean" | "bigint" | "date" | "list"

/** One property of a settings class. */
export interface SettingProperty {
  readonly name: string
  readonly type: SettingType
  /** A getter makes it: no variable is read for it, but it is validated. */
  readonly computed: boolean
  /** A class-validator decorator is on it, which then decides whether it may be absent. */
  readonly validated: boolean
}

const DESIGN_TYPES: ReadonlyMap<unknown, SettingType> = new Map<unknown, SettingType>([
  [String, "string"],
  [Number, "number"],
  [Boolean, "boolean"],
  [BigInt, "bigint"],
  [Date, "date"],
  [Array, "list"],
])

/**
 * Lists the settings of `instance`, those with a field of their own in order of declaration first. A property counts when
 * a class-validator decorator names it (its own or an inherited one), when TypeScript recorded its type because another
 * decorator is on it, or when its initialiser gave it a value. A bare declaration leaves nothing to find at run time.
 */
export function settingProperties(instance: object): SettingProperty[] {
  const validated = new Set(
    getMetadataStorage()
      .getTargetValidationMetadatas(instance.constructor, "", false, false)
      .map(({ propertyName }) => propertyName),
  )
  const declared = Object.entries(instance)
    .filter(([name, value]) => typeof value !== "function" && (value !== undefined || hasType(instance, name)))
    .map(([name]) => name)
  const inOrder = Object.keys(instance).filter((name) => validated.has(name) || declared.includes(name))
  return [...new Set([...inOrder, ...validated])].map((name) => {
    const computed = hasGetter(instance, name)
    const defaultValue: unknown = computed ? undefined : Reflect.get(instance, name)
    const type = DESIGN_TYPES.get(designType(instance, name)) ?? typeOfDefault(defaultValue)
    return { name, type, computed, validated: validated.has(name) }
  })
}

function typeOfDefault(value: unknown): SettingType {
  if (Array.isArray(value)) return "list"
  if (value instanceof Date) return "date"
  if (typeof value === "number") return "number"
  if (typeof value === "boolean") return "boolean"
  return typeof value === "bigint" ? "bigint" : "string"
}

function hasType(instance: object, name: string): boolean {
  return designType(instance, name) !== undefined
}

function designType(instance: object, name: string): unknown {
  return Reflect.getMetadata?.("design:type", instance, name)
}

function hasGetter(instance: object, name: string): boolean {
  for (let owner: object | null = instance; owner !== null; owner = Object.getPrototypeOf(owner)) {
    const descriptor = Object.getOwnPropertyDescriptor(owner, name)
    if (descriptor !== undefined) return descriptor.get !== undefined
  }
  return false
}
