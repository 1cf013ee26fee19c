import { SessionOptionsError } from "../errors"

/**
 * The names of TypeORM 1.1.1's `DataSourceOptions` for the databases that this package supports. `spec/types/data-source-options.ts`
 * does not compile where one is missing or there are too many.
 */
export const DATA_SOURCE_OPTION_NAMES = [
  "acquireTimeout",
  "applicationName",
  "bigNumberStrings",
  "cache",
  "charset",
  "connectTimeout",
  "connectTimeoutMS",
  "database",
  "dateStrings",
  "debug",
  "driver",
  "dropSchema",
  "enableQueryTimeout",
  "enableWAL",
  "entities",
  "entityPrefix",
  "entitySkipConstructor",
  "extensions",
  "extra",
  "fileMustExist",
  "flags",
  "host",
  "insecureAuth",
  "installExtensions",
  "invalidWhereValuesBehavior",
  "isolateWhereStatements",
  "isolationLevel",
  "key",
  "legacySpatialSupport",
  "logNotifications",
  "logger",
  "logging",
  "maxQueryExecutionTime",
  "maxTransactionRetries",
  "metadataTableName",
  "migrations",
  "migrationsRun",
  "migrationsTableName",
  "migrationsTransactionMode",
  "multipleStatements",
  "namingStrategy",
  "nativeBinding",
  "nativeDriver",
  "parseInt8",
  "password",
  "poolErrorHandler",
  "poolSize",
  "port",
  "prepareDatabase",
  "readonly",
  "relationLoadStrategy",
  "replication",
  "schema",
  "socketPath",
  "ssl",
  "statementCacheSize",
  "subscribers",
  "supportBigNumbers",
  "synchronize",
  "timeTravelQueries",
  "timeout",
  "timezone",
  "trace",
  "type",
  "typename",
  "url",
  "useUTC",
  "username",
  "uuidExtension",
  "verbose",
] as const

/** An edit or two, in any case: what a person may have meant. */
const MAX_DISTANCE = 2

/**
 * Checks options that are laid over those of a database URI, as far as TypeORM and the drivers leave a mistake unnoticed.
 * @param alsoKnown names of other options that may stand beside them
 * @param where names the place in error messages, such as "new SessionMaker()"
 * @throws {SessionOptionsError} for a name that nobody knows, saying which was probably meant, and for a `poolSize` that is no
 * number of connections
 */
export function assertDataSourceOptions(options: object, alsoKnown: readonly string[], where: string): void {
  const known: readonly string[] = [...alsoKnown, ...DATA_SOURCE_OPTION_NAMES]
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue
    const meant = closest(name, known)
    throw new SessionOptionsError(
      `${where}: option "${name}" is unknown. ` +
        (meant === undefined
          ? "It is neither a session option nor one of TypeORM's DataSourceOptions; options of the driver go into extra."
          : `Did you mean "${meant}"?`),
    )
  }
  assertPoolSize(options, where)
}

/** @throws {SessionOptionsError} for a `poolSize` that is no number of connections */
export function assertPoolSize(options: { readonly poolSize?: unknown }, where: string): void {
  const { poolSize } = options
  if (poolSize === undefined || (Number.isInteger(poolSize) && (poolSize as number) > 0)) return
  throw new SessionOptionsError(`${where}: option "poolSize" must be a whole number of connections above 0.`)
}

function closest(name: string, known: readonly string[]): string | undefined {
  const distances = known.map((one) => ({ one, distance: editDistance(name.toLowerCase(), one.toLowerCase()) }))
  return distances.toSorted((a, b) => a.distance - b.distance).find(({ distance }) => distance <= MAX_DISTANCE)?.one
}

/** Levenshtein's, one row at a time. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (const [i, char] of [...from].entries()) {
    const next = [i + 1]
    for (const [j, other] of [...to].entries()) {
      next.push(Math.min((row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1, (row[j] ?? 0) + (char === other ? 0 : 1)))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
