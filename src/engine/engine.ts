import type { DataSource } from "typeorm"
import { adaptGuids } from "../columns/adapt-guids"
import { SessionOptionsError } from "../errors"
import type { Engine } from "./connection"
import { MysqlEngine } from "./mysql"
import { PostgresEngine } from "./postgres"
import { SqliteEngine } from "./sqlite"

const engines = new WeakMap<DataSource, Engine>()

const ENGINES: Readonly<Record<string, new (dataSource: DataSource) => Engine>> = {
  "better-sqlite3": SqliteEngine,
  postgres: PostgresEngine,
  cockroachdb: PostgresEngine,
  mysql: MysqlEngine,
  mariadb: MysqlEngine,
}

/**
 * The engine of an initialised `DataSource`: one for each, however many makers use it, so that its slots are counted once.
 * @throws {SessionOptionsError} where this package has none for that database
 */
export function engineOf(dataSource: DataSource): Engine {
  let engine = engines.get(dataSource)
  if (engine === undefined) {
    const EngineClass = ENGINES[dataSource.options.type]
    if (EngineClass === undefined) {
      throw new SessionOptionsError(
        `Sessions on "${dataSource.options.type}" are not supported: use one of ${Object.keys(ENGINES).join(", ")}.`,
      )
    }
    adaptGuids(dataSource)
    engine = new EngineClass(dataSource)
    engines.set(dataSource, engine)
  }
  return engine
}

/** Forgets the engine and ends its own connections; a `DataSource` that is initialised again gets a new one. */
export function closeEngine(dataSource: DataSource): void {
  engines.get(dataSource)?.close()
  engines.delete(dataSource)
}
