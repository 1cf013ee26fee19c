import { testDatabases } from "./databases"

/** The databases that sessions run on. */
export const sessionDatabases = testDatabases

/** Those of the specs over HTTP; what may differ on MariaDB there is in `spec/reliability/`. */
export const httpDatabases = testDatabases.filter(({ kind }) => kind !== "mysql")
