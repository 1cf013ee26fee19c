import { DataSource, type DataSourceOptions } from "typeorm"
import { ENTITIES } from "./entities"

/** Of every server alike: what pg's pool has by default. */
export const POOL_SIZE = 10

/** TypeORM's options for the database of the bench, as a person without this library writes them. */
export function dataSourceOptions(uri: string): DataSourceOptions {
  const url = new URL(uri)
  if (url.protocol === "sqlite:") {
    return { type: "better-sqlite3", database: url.pathname.slice(1), enableWAL: true, entities: ENTITIES }
  }
  return { type: "postgres", url: uri, poolSize: POOL_SIZE, entities: ENTITIES }
}

export async function startDataSource(uri: string): Promise<DataSource> {
  return new DataSource(dataSourceOptions(uri)).initialize()
}

/** The database's URI, which every server has as its first argument. */
export function databaseUri(): string {
  const uri = process.argv[2]
  if (uri === undefined) throw new Error("The first argument must be the database's URI.")
  return uri
}
