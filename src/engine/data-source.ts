import { DataSource, type DataSourceOptions, getMetadataArgsStorage } from "typeorm"
import { adaptGuids, buildAdaptedMetadata } from "../columns/adapt-guids"
import { SessionOptionsError } from "../errors"
import { assertDataSourceOptions, assertPoolSize } from "../settings/data-source-option-names"
import { parseDatabaseUri } from "../settings/database-uri"
import { assertDriverInstalled } from "../settings/driver-package"
import { hideDataSourceSecrets, hideSecrets } from "../settings/hide-secrets"
import { describeTarget } from "./describe-target"
import { connectFailure } from "./pool"

/** TypeORM's options of every database that this package supports, for laying over those that a URI gives. */
export type DataSourceOverrides = { readonly [Name in AllOptionNames]?: OptionType<Name> }

type SupportedType = "better-sqlite3" | "postgres" | "cockroachdb" | "mysql" | "mariadb"
type SupportedOptions = Extract<DataSourceOptions, { type: SupportedType }>
type AllOptionNames = SupportedOptions extends infer One ? (One extends unknown ? keyof One : never) : never
type OptionType<Name> = SupportedOptions extends infer One
  ? One extends unknown
    ? Name extends keyof One
      ? One[Name]
      : never
    : never
  : never

/**
 * Makes and initialises a new `DataSource` from a URI, as `buildDataSource()` does. The caller owns it and destroys it.
 * @param database a URI, or TypeORM's own options
 * @param options laid over those of the URI
 * @throws as `buildDataSource()`, and {DatabaseUnavailableError} where the database cannot be reached or refuses; nothing is
 * left open
 */
export async function createDataSource(
  database: string | DataSourceOptions,
  options: DataSourceOverrides = {},
): Promise<DataSource> {
  return initialize(buildDataSource(database, options))
}

/**
 * Makes a new `DataSource` from a URI without connecting, with the recommended settings: every `@Entity()` class imported by
 * then, WAL on SQLite files, a limit on the time to connect, keep-alive, and on MySQL replicas that come back. It is what
 * TypeORM's command line takes as `export default`, and what a `SessionMaker` may be given. The caller owns it and destroys it.
 * @param database a URI, or TypeORM's own options
 * @param options laid over those of the URI; the recommended settings lie under both
 * @throws {DatabaseUriError} where the URI cannot be understood
 * @throws {DriverNotInstalledError} where the database's driver package is missing
 * @throws {SessionOptionsError} for an option that nobody knows, or a `poolSize` that is no number of connections
 * @example
 * export default buildDataSource("postgres://localhost/app", { migrations: ["dist/migrations/*.js"] })
 */
export function buildDataSource(database: string | DataSourceOptions, options: DataSourceOverrides = {}): DataSource {
  return build(database, options, CONNECT_TIMEOUT_MS)
}

function build(
  database: string | DataSourceOptions,
  options: DataSourceOverrides,
  connectTimeoutMs: number,
): DataSource {
  assertDataSourceOptions(options, [], "buildDataSource()")
  const given = typeof database === "string" ? parseDatabaseUri(database) : database
  assertDriverInstalled(given.type)
  const merged = { ...given, ...options } as DataSourceOptions
  assertPoolSize(merged, "buildDataSource()")
  const complete = { ...merged, ...missingSettings(merged, connectTimeoutMs) } as DataSourceOptions
  const dataSource = new DataSource(
    hideSecrets(complete.entities === undefined ? { ...complete, entities: importedEntities() } : complete),
  )
  adaptGuids(dataSource)
  return hideDataSourceSecrets(dataSource)
}

/**
 * Makes a `DataSource` of the application's behave as one of `buildDataSource()`: GUID columns are adapted, and where it is not
 * initialised yet, the recommended settings are laid under its own. Does nothing more when called again.
 */
export function adoptDataSource(dataSource: DataSource): void {
  adaptGuids(dataSource)
  hideDataSourceSecrets(dataSource)
  // TypeORM itself cannot set options that are frozen.
  if (dataSource.isInitialized || !Object.isExtensible(dataSource.options)) return
  const missing = missingSettings(dataSource.options, CONNECT_TIMEOUT_MS)
  dataSource.setOptions(missing as Partial<DataSourceOptions>)
  // TypeORM's MySQL driver connects with a copy of the options (typeorm 1.1.1 `MysqlDriver`).
  Object.assign(dataSource.driver.options, missing)
  hideDataSourceSecrets(dataSource)
}

/**
 * Does at once what can be done with a database that a maker is given: its options are checked, and a `DataSource` is adopted,
 * as the application may save through it before the first session is made.
 * @throws {SessionOptionsError} for a `poolSize` that is no number of connections
 */
export function acceptDatabase(database: unknown, where: string): void {
  if (database instanceof DataSource) adoptDataSource(database)
  else if (typeof database === "object" && database !== null) assertPoolSize(database, where)
}

/**
 * The `DataSource` that was given, or a new one, not initialised.
 * @param acquireTimeoutMs how long its sessions wait for a connection: one that nobody waits for any more is not opened further,
 *   as it would keep a place in the pool
 * @throws {SessionOptionsError} where it is nothing of the kind, and as `buildDataSource()`
 */
export function toDataSource(
  given: string | DataSourceOptions | DataSource,
  overrides: DataSourceOverrides,
  acquireTimeoutMs = CONNECT_TIMEOUT_MS,
): DataSource {
  if (given instanceof DataSource) return given
  if (typeof given !== "string" && (typeof given !== "object" || given === null || !("type" in given))) {
    throw new SessionOptionsError(
      "SessionMaker needs a database URI, TypeORM's DataSourceOptions, a DataSource, or a function that returns one of these.",
    )
  }
  return build(given, overrides, acquireTimeoutMs + CONNECT_GRACE_MS)
}

/**
 * Builds the entities' metadata without connecting, so that queries can be built before the database is there; `initialize()`
 * builds them again, with what it has learnt of the server. Does nothing more for one that is initialised.
 */
export async function buildMetadata(dataSource: DataSource): Promise<void> {
  adoptDataSource(dataSource)
  if (!dataSource.isInitialized) await buildAdaptedMetadata(dataSource)
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
  adoptDataSource(dataSource)
  try {
    await dataSource.initialize()
  } catch (error) {
    throw connectFailure(describeTarget(dataSource.options), error)
  }
  return hideDataSourceSecrets(dataSource)
}

const CONNECT_TIMEOUT_MS = 10_000
/** So that whoever waits in vain is told of the wait, and not of the connect that was given up. */
const CONNECT_GRACE_MS = 250
/** Packets that get no answer for so long are asked after, and a connection whose other end is gone is found so. */
const KEEP_ALIVE_DELAY_MS = 10_000
/**
 * A node of mysql2's cluster that failed five times is left out for so long. Without it, mysql2 removes the node for good, the
 * primary too, and where it had connections, ends the process (mysql2 3.24.6 `pool_cluster.js`, `_removeNode()`: `end()` without
 * a callback throws). Short, as meanwhile nothing else can be done where that node is the primary.
 */
const RESTORE_NODE_MS = 1_000

type Settings = Readonly<Record<string, unknown>>

/** What is recommended; what lies in an inner object is laid under what the user has in it. */
function recommended(
  type: DataSourceOptions["type"],
  { database, replication }: Settings,
  connectTimeoutMs: number,
): Settings {
  switch (type) {
    case "postgres":
      return {
        connectTimeoutMS: connectTimeoutMs,
        // Nothing to install for a server-made GUID: gen_random_uuid() is there since PostgreSQL 13.
        uuidExtension: "pgcrypto",
        extra: { keepAlive: true, keepAliveInitialDelayMillis: KEEP_ALIVE_DELAY_MS },
      }
    case "cockroachdb":
      // TypeORM 1.1.1 has no name of its own for the time out there.
      return {
        extra: {
          connectionTimeoutMillis: connectTimeoutMs,
          keepAlive: true,
          keepAliveInitialDelayMillis: KEEP_ALIVE_DELAY_MS,
        },
      }
    case "mysql":
    case "mariadb":
      return {
        connectTimeout: connectTimeoutMs,
        // mysql2 switches keep-alive on by itself, but leaves the delay to the system: two hours on Linux.
        extra: { keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS },
        ...(replication !== undefined && { replication: { restoreNodeTimeout: RESTORE_NODE_MS } }),
      }
    case "better-sqlite3":
      return database === ":memory:" || database === "" ? {} : { enableWAL: true }
    default:
      return {}
  }
}

/** The recommended settings that `given` says nothing of. */
function missingSettings(given: DataSourceOptions, connectTimeoutMs: number): Settings {
  const own = given as unknown as Settings
  const missing: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(recommended(given.type, own, connectTimeoutMs))) {
    if (typeof value === "object") missing[name] = { ...value, ...(own[name] as object | undefined) }
    else if (!(name in own)) missing[name] = value
  }
  return missing
}

/** Classes only: an `EntitySchema` is not in TypeORM's list. */
function importedEntities(): (() => void)[] {
  const targets = getMetadataArgsStorage().tables.map((table) => table.target)
  return [...new Set(targets.filter((target) => typeof target === "function"))] as (() => void)[]
}
