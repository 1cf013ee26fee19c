import { testDatabases } from "./databases"

/** The databases that sessions run on. */
export const sessionDatabases = testDatabases.filter(({ kind }) => kind !== "mysql")
