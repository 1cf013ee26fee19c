import type { DataSourceOptions } from "typeorm"
import { redactUri } from "../settings/redact-uri"

/** @returns type and place of the database, without secrets */
export function describeTarget(options: DataSourceOptions): string {
  const { type, url, host, port, database, replication } = options as DataSourceOptions & Record<string, unknown>
  if (typeof url === "string") return redactUri(url)
  if (type === "better-sqlite3") return `SQLite file ${String(database)}`
  if (replication) return `${type} with replication`
  return `${type} at ${host ?? "localhost"}${port ? `:${port}` : ""}, database ${database ?? "(default)"}`
}
