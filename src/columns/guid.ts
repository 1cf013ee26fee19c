import { Column, type ColumnOptions, getMetadataArgsStorage } from "typeorm"
import { SessionOptionsError } from "../errors"
import { type GuidGeneration, GuidTransformer } from "./guid-transformer"
import { type GuidVersion, generateGuid } from "./guid-value"

/** Options of `@PrimaryGuid()`. */
export interface PrimaryGuidOptions extends Pick<ColumnOptions, "name" | "comment"> {
  /** Default 4. Version 7 cannot be combined with `generate: "server"`. */
  readonly version?: GuidVersion
  /**
   * `"application"`: made in this process, set on the entity before the insert. `"server"`: made by PostgreSQL's column
   * default and read back; where the database has no such default it is made in the application instead.
   */
  readonly generate?: "application" | "server"
}

/** Options of `@Guid()`. Nothing is generated unless `generate` or `version` is given. */
export interface GuidOptions
  extends PrimaryGuidOptions,
    Pick<ColumnOptions, "nullable" | "unique" | "select" | "insert" | "update"> {}

/** Default of a `uuid` column on PostgreSQL 13 and newer, or with pgcrypto: `default: () => GUID_SERVER_DEFAULT_POSTGRES`. */
export const GUID_SERVER_DEFAULT_POSTGRES = "gen_random_uuid()"

/**
 * Declares a GUID column: native `uuid` on PostgreSQL and MariaDB 10.7, elsewhere text in one canonical lower-case form.
 * A look-up in any spelling finds the row on every database; find criteria and entities are canonicalised, parameters of
 * a hand-written `where("id = :id")` are not: give those through `parseGuid()`.
 * @throws {SessionOptionsError} for `version: 7` with `generate: "server"`, or an unknown option value.
 * @throws {InvalidGuidError} from the query, before it is sent, when the value is no GUID.
 * @see SQLAlchemy `Uuid` and fastapi-restful `GUID`: same portability; ours accepts several spellings.
 */
export function Guid(options: GuidOptions = {}): PropertyDecorator {
  const { version, generate, ...columnOptions } = options
  const generation = generate ?? (version === undefined ? "none" : "application")
  return guidColumn("@Guid()", generation, version, columnOptions)
}

/**
 * Declares the primary key as a GUID column that fills itself: see `Guid()`.
 * A `DataSource` of this package, or one that it was given, sets it on entities and plain objects alike. With any other
 * `DataSource` and plain objects, TypeORM's rules for generated `uuid` columns hold: version 7 is then reported back only where
 * the database has `RETURNING`.
 * @param options `version` default 4, `generate` default `"application"`
 * @throws {SessionOptionsError} as `Guid()`.
 */
export function PrimaryGuid(options: PrimaryGuidOptions = {}): PropertyDecorator {
  const { version, generate = "application", ...columnOptions } = options
  return guidColumn("@PrimaryGuid()", generate, version, { ...columnOptions, primary: true })
}

function guidColumn(
  decorator: string,
  generation: GuidGeneration,
  version: GuidVersion = 4,
  columnOptions: ColumnOptions,
): PropertyDecorator {
  checkOptions(decorator, generation, version)
  return function declareGuidColumn(target, property): void {
    const label = `${target.constructor.name}.${String(property)}`
    // TypeORM makes version 4 itself for a value left `undefined`; version 7 it cannot make.
    const transformer = new GuidTransformer(label, generation, version, generation === "application" && version === 7)
    Column({
      ...columnOptions,
      type: "uuid",
      transformer,
      ...(generation !== "none" && { generated: "uuid" as const }),
    })(target, property)
    if (generation === "application") fillBeforeInsert(target, property, version)
  }
}

/**
 * Registers what `@BeforeInsert()` would: it sets the GUID on entity instances with any `DataSource`. TypeORM skips such
 * listeners for plain objects (typeorm 1.1.1 `EntityListenerMetadata.isAllowed`); `GuidSubscriber` serves those.
 */
function fillBeforeInsert(target: object, property: string | symbol, version: GuidVersion): void {
  const listener = Symbol(`fills ${String(property)}`)
  Object.defineProperty(target, listener, {
    value: function fillGuid(this: Record<string | symbol, unknown>): void {
      if (this[property] === undefined) this[property] = generateGuid(version)
    },
  })
  getMetadataArgsStorage().entityListeners.push({
    target: target.constructor,
    // TypeORM only uses it as a property key; a symbol cannot collide with a property of the entity.
    propertyName: listener as unknown as string,
    type: "before-insert",
  })
}

function checkOptions(decorator: string, generation: GuidGeneration, version: GuidVersion): void {
  if (version !== 4 && version !== 7) {
    throw new SessionOptionsError(`${decorator} was given an unknown version. Use 4 or 7.`)
  }
  if (!["application", "server", "none"].includes(generation)) {
    throw new SessionOptionsError(`${decorator} was given an unknown "generate". Use "application" or "server".`)
  }
  if (generation === "server" && version === 7) {
    throw new SessionOptionsError(
      `${decorator} cannot combine version 7 with generate "server": ${GUID_SERVER_DEFAULT_POSTGRES} makes version 4. ` +
        'Leave out "generate" to make version 7 in the application.',
    )
  }
}
