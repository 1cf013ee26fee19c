import { execFileSync, type StdioOptions } from "node:child_process"
import { copyFileSync, existsSync, mkdirSync, readFileSync, realpathSync } from "node:fs"
import { join } from "node:path"
import { repositoryTop } from "../spec/support/sources"

const SOURCES = join(repositoryTop, "bench", "contenders")

/**
 * Below `node_modules`, where neither git nor the checks look. What is not installed here (TypeORM, Koa, pg) is found in the
 * folders above, so that all contenders run on the same copies.
 */
const HOME = join(repositoryTop, "node_modules", ".cache", "bench-contenders")
const LOCK = "package-lock.json"

/**
 * Installs what `bench/contenders/package-lock.json` says, where it is not there yet, and compiles the contenders.
 * @returns the compiled file of each
 * @throws what `npm ci` or the compiler ends with
 */
export function prepareContenders(): (name: string) => string {
  mkdirSync(HOME, { recursive: true })
  // npm and the compiler lose the way where a folder above is a link, as `node_modules` may be.
  const [sources, home] = [realpathSync(SOURCES), realpathSync(HOME)]
  if (!isInstalled()) {
    for (const name of ["package.json", LOCK, ".npmrc"]) copyFileSync(join(SOURCES, name), join(HOME, name))
    const stdio: StdioOptions = ["ignore", "ignore", "inherit"]
    execFileSync("npm", ["ci", "--prefix", home, "--ignore-scripts"], { cwd: home, stdio })
  }
  const compiled = join(home, "dist")
  const compiler = require.resolve("typescript/package.json")
  execFileSync(process.execPath, [join(compiler, "..", "bin", "tsc"), "-p", sources, "--outDir", compiled], {
    stdio: "inherit",
  })
  return (name) => join(compiled, "contenders", `${name}.js`)
}

/** npm writes its own list last, so that one that was interrupted is not there. */
function isInstalled(): boolean {
  const copied = join(HOME, LOCK)
  if (!existsSync(join(HOME, "node_modules", ".package-lock.json")) || !existsSync(copied)) return false
  return readFileSync(copied, "utf8") === readFileSync(join(SOURCES, LOCK), "utf8")
}
