import type { DataSource } from "typeorm"
import { SessionOptionsError } from "../errors"
import type { IsolationLevel } from "./connection"

/** @throws {SessionOptionsError} where the database has no such isolation level */
export function assertIsolation(dataSource: DataSource, isolation: IsolationLevel | undefined): void {
  const supported: readonly string[] = dataSource.driver.supportedIsolationLevels ?? []
  if (isolation === undefined || supported.includes(isolation)) return
  throw new SessionOptionsError(
    `isolation "${isolation}" is not one of ${supported.join(", ")}, which this database supports.`,
  )
}
