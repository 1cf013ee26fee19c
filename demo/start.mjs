// Builds and starts in one process: a shell in between would not hand SIGTERM on to the server.
import { execFileSync } from "node:child_process"
import { rmSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const top = join(dirname(fileURLToPath(import.meta.url)), "..")
const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc")
rmSync(join(top, "dist"), { recursive: true, force: true })
execFileSync(process.execPath, [compiler, "-p", join(top, "tsconfig.json")], { stdio: "inherit" })
await import("../dist/demo/server.js")
