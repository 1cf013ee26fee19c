import { execFile } from "node:child_process"
import { mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect } from "chai"
import { type CreatedDatabase, testDatabases } from "../support/databases"
import { blocksOf, modulesOf } from "../support/docs-blocks"
import { readSources, repositoryTop } from "../support/sources"

const run = promisify(execFile)
// Inside the repository, so that the package finds itself by name through its own `exports`.
const folder = join(repositoryTop, "dist", "docs-run")

/** Compiles the code of the pages. @returns where the one module of each page is */
async function compile(pages: readonly string[]): Promise<Map<string, string>> {
  const sources = readSources("docs", ".md").filter(({ path }) => pages.includes(path))
  const modules = modulesOf(sources.flatMap(blocksOf))
  expect(modules.map(({ page }) => page)).to.have.members(pages)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const compilerOptions = {
    rootDir: "../..",
    outDir: "./out",
    declaration: false,
    types: ["node"],
    noUnusedLocals: false,
    noUnusedParameters: false,
  }
  const configuration = { extends: "../../tsconfig.json", compilerOptions, include: ["./*.ts"], exclude: [] }
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(configuration))
  for (const { file, text } of modules) await writeFile(join(folder, file), text)
  await run(process.execPath, [join(repositoryTop, "node_modules", "typescript", "bin", "tsc"), "-p", folder])
  return new Map(
    modules.map(({ page, file }) => [page, join(folder, "out", "dist", "docs-run", file.replace(/\.ts$/, ".js"))]),
  )
}

describe("docs/services.md and docs/testing.md", () => {
  let modules: Map<string, string>
  let database: CreatedDatabase | undefined

  before(async function () {
    this.timeout(60_000)
    modules = await compile(["docs/services.md", "docs/testing.md"])
    database = await testDatabases.find(({ kind }) => kind === "postgres")?.createDatabase()
  })
  after(async function () {
    this.timeout(60_000)
    await database?.drop()
  })

  it("the services do what the page says", async function () {
    this.timeout(60_000)
    const script = join(repositoryTop, "dist", "spec", "services", "support", "services-page.js")
    const { stdout } = await run(process.execPath, [script, modules.get("docs/services.md") ?? "", database?.uri ?? ""])
    expect(JSON.parse(stdout)).to.deep.equal({
      created: { id: 1, item: "tea" },
      found: { id: 1, item: "tea" },
      refused: 500,
      audit: [{ id: 1, text: "ordered tea" }],
      counted: "1",
      ambientCount: { orders: 1 },
      imported: { orders: 3 },
      importUndone: 500,
      orders: 3,
      auditRows: 2,
      analyticsRows: 0,
      tenants: [{ orders: 2 }, { orders: 1 }, { orders: 0 }],
    })
  })

  it("the specs of the page on testing pass", async function () {
    this.timeout(60_000)
    const mocha = join(repositoryTop, "node_modules", "mocha", "bin", "mocha.js")
    const args = [mocha, "--no-config", "--no-package", "--reporter", "json", modules.get("docs/testing.md") ?? ""]
    const { DATABASE_URI: _, ...env } = process.env
    const { stdout } = await run(process.execPath, args, { env })
    const { stats } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as { stats: { passes: number; failures: number } }
    expect([stats.passes, stats.failures]).to.deep.equal([4, 0])
  })
})
