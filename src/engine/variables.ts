import { SessionOptionsError } from "../errors"

const SUPPORTING: readonly string[] = ["postgres", "cockroachdb"]

/**
 * @param type TypeORM's name of the database
 * @throws {SessionOptionsError} where the database has no settings that end with the transaction
 */
export function assertVariables(type: string): void {
  if (SUPPORTING.includes(type)) return
  throw new SessionOptionsError(
    `variables need PostgreSQL or CockroachDB; the database is "${type}", which has no settings of a transaction.`,
  )
}

/**
 * @param type TypeORM's name of the database
 * @throws {SessionOptionsError} always
 */
export function refuseResolve(type: string): never {
  throw new SessionOptionsError(
    `resolveCommits needs PostgreSQL; the database is "${type}", which does not tell what became of a COMMIT.`,
  )
}
