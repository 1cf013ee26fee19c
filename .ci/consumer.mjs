/**
 * Packs the package, installs the archive with its peers in an empty project, and asks one question of an application
 * there, once as CommonJS and once as an ES module. `pg` and `mysql2` are left out: SQLite alone must be enough.
 */
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const top = join(dirname(fileURLToPath(import.meta.url)), "..")
const leftOut = ["pg", "mysql2"]
const nativeFolders = ["better-sqlite3", "bindings", "file-uri-to-path"]

const application = `
class Answers {
  async answer(db) {
    const rows = await db.query("SELECT 42 AS answer")
    return rows[0]
  }
}
Session()(Answers.prototype, "answer", 0)
Get("/")(Answers.prototype, "answer", Object.getOwnPropertyDescriptor(Answers.prototype, "answer"))
JsonController()(Answers)
const server = useKoaServer(new Koa(), { controllers: [Answers] })
  .listen(0, "127.0.0.1", () => console.log(server.address().port))
`

const programs = {
  "app.cjs": `require("reflect-metadata")
const Koa = require("koa")
const { Get, JsonController } = require("routing-controllers")
const { Session, useKoaServer } = require("routing-controllers-typeorm")
require("routing-controllers-typeorm/testing")
${application}`,
  "app.mjs": `import "reflect-metadata"
import Koa from "koa"
import { Get, JsonController } from "routing-controllers"
import { Session, useKoaServer } from "routing-controllers-typeorm"
import "routing-controllers-typeorm/testing"
${application}`,
}

function npm(cwd, ...args) {
  execFileSync("npm", args, { cwd, stdio: ["ignore", "ignore", "inherit"] })
}

function install(project) {
  npm(top, "pack", "--silent", "--pack-destination", project)
  const archive = readdirSync(project).find((name) => name.endsWith(".tgz"))
  const { packages } = JSON.parse(readFileSync(join(top, "package-lock.json"), "utf8"))
  const { peerDependencies } = JSON.parse(readFileSync(join(top, "package.json"), "utf8"))
  const peers = Object.keys(peerDependencies)
    .filter((name) => !leftOut.includes(name))
    .map((name) => `${name}@${packages[`node_modules/${name}`].version}`)
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "consumer", private: true }))
  npm(project, "install", "--ignore-scripts", "--no-audit", "--no-fund", `./${archive}`, ...peers)
  // Compiled for the repository a moment ago: compiling it again would take minutes.
  for (const name of nativeFolders) {
    cpSync(join(top, "node_modules", name), join(project, "node_modules", name), { recursive: true })
  }
}

async function ask(project, program) {
  const env = { ...process.env, DATABASE_URI: "sqlite://" }
  const app = spawn(process.execPath, [program], { cwd: project, env, stdio: ["ignore", "pipe", "inherit"] })
  const ended = once(app, "exit")
  try {
    const port = await Promise.race([
      once(createInterface(app.stdout), "line").then(([line]) => line),
      ended.then(([code]) => {
        throw new Error(`${program} ended with code ${code} before it listened`)
      }),
    ])
    const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(10_000) })
    const body = await response.text()
    console.log(`${program}: ${response.status} ${body}`)
    if (response.status !== 200 || body !== '{"answer":42}') throw new Error(`${program} gave a wrong answer`)
  } finally {
    app.kill()
    await ended
  }
}

const project = mkdtempSync(join(tmpdir(), "consumer-"))
try {
  install(project)
  for (const [name, text] of Object.entries(programs)) {
    writeFileSync(join(project, name), text)
    await ask(project, name)
  }
} finally {
  rmSync(project, { recursive: true, force: true })
}
