import { DataSource, type DataSourceOptions, getMetadataArgsStorage } from "typeorm"
import { GuidDataSource } from "../columns/adapt-guids"
import { parseDatabaseUri } from "../settings/database-uri"
import { assertDriverInstalled } from "../settings/driver-package"
import { hideDataSourceSecrets, hideSecrets } from "../settings/hide-secrets"
import { describeTarget } from "./describe-target"
import { connectFailure } from "./pool"

/** Any of TypeORM's options, of whichever database, for laying over those that a URI gives. */
export type DataSourceOverrides = { readonly [Name in AllOptionNames]?: OptionType<Name> }

type AllOptionNames = DataSourceOptions extends infer One ? (One extends unknown ? keyof One : never) : never
type OptionType<Name> = DataSourceOptions extends infer One
  ? One extends unknown
    ? Name extends keyof One
      ? One[Name]
      : never
    : never
  : never

/**
 * Makes and initialises a new `DataSource` from a URI, with the recommended settings: every `@Entity()` class imported by
 * then, WAL on SQLite files, a limit on the time to connect. The caller owns it and destroys it.
 * @param database a URI, or TypeORM's own options
 * @param options laid over those of the URI
 * @throws {DatabaseUriError} where the URI cannot be understood
 * @throws {DriverNotInstalledError} where the database's driver package is missing
 * @throws {DatabaseUnavailableError} where the database cannot be reached or refuses; nothing is left open
 */
export async function createDataSource(
  database: string | DataSourceOptions,
  options: DataSourceOverrides = {},
): Promise<DataSource> {
  return initialize(buildDataSource(database, options))
}

/** Makes the `DataSource` without connecting. */
export function buildDataSource(database: string | DataSourceOptions, options: DataSourceOverrides): DataSource {
  const given = typeof database === "string" ? parseDatabaseUri(database) : database
  assertDriverInstalled(given.type)
  const merged = { ...recommended(given), ...given, ...options } as DataSourceOptions
  return new GuidDataSource(
    hideSecrets(merged.entities === undefined ? { ...merged, entities: importedEntities() } : merged),
  )
}

/**
 * Builds the entities' metadata without connecting, so that queries can be built before the database is there; `initialize()`
 * builds them again, with what it has learnt of the server. One that was made elsewhere is initialised instead.
 */
export async function buildMetadata(dataSource: DataSource): Promise<void> {
  if (dataSource instanceof GuidDataSource) await dataSource.prepareMetadata()
  else await initialize(dataSource)
}

const initializing = new WeakMap<DataSource, Promise<DataSource>>()

/**
 * Initialises it once for all that ask at the same time: TypeORM would open a pool for each, and forget all but one.
 * @throws {DatabaseUnavailableError} as `createDataSource`
 */
export function initialize(dataSource: DataSource): Promise<DataSource> {
  let running = initializing.get(dataSource)
  if (running === undefined) {
    running = initializeOnce(dataSource).finally(() => initializing.delete(dataSource))
    initializing.set(dataSource, running)
  }
  return running
}

async function initializeOnce(dataSource: DataSource): Promise<DataSource> {
  try {
    await dataSource.initialize()
  } catch (error) {
    throw connectFailure(describeTarget(dataSource.options), error)
  }
  return hideDataSourceSecrets(dataSource)
}

function recommended(given: DataSourceOptions): object {
  switch (given.type) {
    case "postgres":
      // Nothing to install for a server-made GUID: gen_random_uuid() is there since PostgreSQL 13.
      return { connectTimeoutMS: 10_000, uuidExtension: "pgcrypto" }
    case "mysql":
    case "mariadb":
      return { connectTimeout: 10_000 }
    case "better-sqlite3":
      return given.database === ":memory:" || given.database === "" ? {} : { enableWAL: true }
    default:
      return {}
  }
}

/** Classes only: an `EntitySchema` is not in TypeORM's list. */
function importedEntities(): (() => void)[] {
  const targets = getMetadataArgsStorage().tables.map((table) => table.target)
  return [...new Set(targets.filter((target) => typeof target === "function"))] as (() => void)[]
}
