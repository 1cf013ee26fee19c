import { createRequire } from "node:module"
import { join } from "node:path"
import { DriverNotInstalledError } from "../errors"

const PACKAGES: ReadonlyMap<string, string> = new Map([
  ["better-sqlite3", "better-sqlite3"],
  ["postgres", "pg"],
  ["cockroachdb", "pg"],
  ["mysql", "mysql2"],
  ["mariadb", "mysql2"],
])

/** Throws when the package is not found, as `require.resolve` does. */
export type ResolvePackage = (name: string) => unknown

/**
 * Checks that the driver package of a TypeORM database type can be found, from this package, from TypeORM or from the
 * application's folder. Does nothing for types that this package does not know.
 * @throws {DriverNotInstalledError} naming the package and how to install it.
 */
export function assertDriverInstalled(type: string, resolve: ResolvePackage = resolveFromAnywhere): void {
  const name = PACKAGES.get(type)
  if (name === undefined) return
  try {
    resolve(name)
  } catch (cause) {
    throw new DriverNotInstalledError(
      `The database type "${type}" needs the package ${name}, which is not installed. Run: npm install ${name}`,
      { cause },
    )
  }
}

function resolveFromAnywhere(name: string): string {
  try {
    return require.resolve(name)
  } catch {
    // A workspace may install drivers beside TypeORM, or beside the application only.
  }
  try {
    return createRequire(require.resolve("typeorm")).resolve(name)
  } catch {
    return createRequire(join(process.cwd(), "package.json")).resolve(name)
  }
}
