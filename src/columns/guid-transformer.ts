import type { ValueTransformer } from "typeorm"
import { type GuidVersion, generateGuid, parseGuid, tryParseGuid } from "./guid-value"

/** Who makes the GUID of a new row that was given none. */
export type GuidGeneration = "application" | "server" | "none"

/**
 * Canonicalises what goes to the database, find criteria included, and marks a column as a GUID column: TypeORM keeps
 * the transformer on the column's metadata, so other code finds GUID columns by `instanceof`.
 */
export class GuidTransformer implements ValueTransformer {
  /**
   * @param column named in errors, such as `User.id`
   * @param fillsMissing makes a GUID for `undefined`: an insert of an object that nothing gave an id before
   */
  constructor(
    readonly column: string,
    readonly generation: GuidGeneration,
    readonly version: GuidVersion,
    readonly fillsMissing: boolean,
  ) {}

  to(value: unknown): unknown {
    if (value === undefined) return this.fillsMissing ? generateGuid(this.version) : undefined
    // TypeORM passes SQL expressions as functions, and the list of `Any([...])` as one array.
    if (value === null || typeof value === "function") return value
    if (Array.isArray(value)) return value.map((one) => this.to(one))
    return parseGuid(value, this.column)
  }

  /** Rows that something else wrote in another spelling are read in the canonical one. */
  from(value: unknown): unknown {
    return tryParseGuid(value) ?? value
  }

  /** For an insert that must not rely on the database or on TypeORM to make the GUID. */
  filling(): GuidTransformer {
    return new GuidTransformer(this.column, this.generation, this.version, true)
  }

  /** For a foreign key: same form, but it never makes a GUID of its own. */
  forReference(column: string): GuidTransformer {
    return new GuidTransformer(column, "none", this.version, false)
  }
}
