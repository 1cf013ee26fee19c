import { randomBytes, randomInt, randomUUID } from "node:crypto"
import { InvalidGuidError } from "../errors"

/** 4: random. 7: begins with the time, so that new rows land at the end of an index. */
export type GuidVersion = 4 | 7

const HYPHENATED = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const PLAIN = /^[0-9a-f]{32}$/

/** 12 bits of RFC 9562's `rand_a` count the GUIDs of one millisecond. */
const COUNTER_MAX = 0xfff
/** Seeding below this leaves room to count up before the counter is full. */
const COUNTER_SEED = 0x400

let lastMs = 0
let counter = 0

/** The canonical form of `value`, or `undefined` where it is no GUID. Same spellings as `parseGuid()`. */
export function tryParseGuid(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined
  const digits = stripDecoration(value.toLowerCase())
  if (HYPHENATED.test(digits)) return digits
  if (!PLAIN.test(digits)) return undefined
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join(
    "-",
  )
}

/**
 * Brings a GUID into its one canonical form: lower case, hyphenated, 36 characters. Any version and variant is taken.
 * @param value upper or lower case, hyphenated or 32 hex digits, also in braces or behind `urn:uuid:`
 * @param column named in the error, such as `User.id`
 * @throws {InvalidGuidError} for anything else; the message holds no part of the value.
 */
export function parseGuid(value: unknown, column?: string): string {
  const guid = tryParseGuid(value)
  if (guid !== undefined) return guid
  const kind = typeof value === "string" ? `a string of ${value.length} characters` : `of type ${typeof value}`
  throw new InvalidGuidError(
    `${column ?? "A GUID"} was given a value that is no GUID (${kind}). Nothing was sent to the database. ` +
      "Give 32 hex digits, with or without hyphens, braces or urn:uuid:, in either case.",
  )
}

/**
 * Makes a new GUID in canonical form. Those of version 7 ascend strictly within this process, also within one
 * millisecond and when the clock is set back.
 * @param version default 4
 * @see RFC 9562, section 6.2 method 1 (fixed-length counter); ours borrows the next millisecond when the counter is full.
 */
export function generateGuid(version: GuidVersion = 4): string {
  return version === 7 ? generateGuid7() : randomUUID()
}

function generateGuid7(): string {
  const now = Date.now()
  if (now > lastMs) {
    lastMs = now
    counter = randomInt(COUNTER_SEED)
  } else if (counter < COUNTER_MAX) {
    counter += 1
  } else {
    lastMs += 1
    counter = randomInt(COUNTER_SEED)
  }
  const time = lastMs.toString(16).padStart(12, "0")
  const tail = randomBytes(8)
  // The two highest bits of the ninth byte are the variant, 0b10.
  tail.writeUInt8((tail.readUInt8(0) & 0x3f) | 0x80, 0)
  const random = tail.toString("hex")
  const count = counter.toString(16).padStart(3, "0")
  return `${time.slice(0, 8)}-${time.slice(8)}-7${count}-${random.slice(0, 4)}-${random.slice(4)}`
}

function stripDecoration(text: string): string {
  if (text.startsWith("urn:uuid:")) return text.slice("urn:uuid:".length)
  if (text.startsWith("{") && text.endsWith("}")) return text.slice(1, -1)
  return text
}
