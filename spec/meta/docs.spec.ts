import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { expect } from "chai"
import { blocksOf, modulesOf } from "../support/docs-blocks"
import { readSources, repositoryTop } from "../support/sources"

// Inside the repository, so that the package finds itself by name through its own `exports`.
const folder = join(repositoryTop, "dist", "docs-check")

const pages = [...readSources(".", ".md").filter(({ path }) => path === "README.md"), ...readSources("docs", ".md")]
const blocks = pages.flatMap(blocksOf)

/** @returns what the compiler complains about, with `file(line,column)` first */
async function complaintsOf(modules: readonly { file: string; text: string }[]): Promise<string[]> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const configuration = {
    extends: "../../tsconfig.json",
    compilerOptions: {
      rootDir: "../..",
      noEmit: true,
      types: ["node"],
      // An example shows a declaration without using it.
      noUnusedLocals: false,
      noUnusedParameters: false,
    },
    include: ["./*"],
    // Or the inherited `outDir` would be left out, and this folder with it.
    exclude: [],
  }
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(configuration))
  for (const { file, text } of modules) await writeFile(join(folder, file), text)
  return new Promise((resolve, reject) => {
    const tsc = join(repositoryTop, "node_modules", "typescript", "bin", "tsc")
    execFile(process.execPath, [tsc, "-p", folder, "--pretty", "false"], { cwd: folder }, (error, stdout, stderr) => {
      if (error !== null && stdout === "") reject(new Error(stderr || error.message))
      else resolve(stdout.split("\n").filter((line) => line !== ""))
    })
  })
}

describe("TypeScript blocks of README.md and docs/", () => {
  it("compile against the built package, imported by its name", async function () {
    this.timeout(60_000)
    expect(existsSync(join(repositoryTop, "dist", "src", "index.d.ts")), "dist/src/index.d.ts is built").to.equal(true)
    const modules = modulesOf(blocks)
    expect(modules.map(({ page }) => page)).to.include("README.md")
    expect(await complaintsOf(modules)).to.deep.equal([])
  })

  it("say why where they are skipped", () => {
    expect(blocks.filter(({ skip }) => skip === "").map(({ page, line }) => `${page}:${line}`)).to.deep.equal([])
  })
})

describe("the check of documentation", () => {
  const text = [
    "# Page",
    "```ts",
    "const answer = 42",
    "```",
    "```sh",
    "const no = 0",
    "```",
    "```ts continued",
    "const text: string = answer",
    "```",
    "```ts skip: shows a mistake",
    "nonsense(",
    "```",
    "````md",
    "```ts",
    "not.a.block",
    "```",
    "````",
    "```ts",
    "const later = await Promise.resolve(1)",
    "```",
  ].join("\n")
  const found = blocksOf({ path: "docs/page.md", text })

  it("finds the blocks, their lines and their tags", () => {
    expect(found.map(({ line, skip, continued }) => [line, skip, continued])).to.deep.equal([
      [2, undefined, false],
      [8, undefined, true],
      [11, "shows a mistake", false],
      [19, undefined, false],
    ])
  })

  it("reports a mistake with the line of its page", async function () {
    this.timeout(60_000)
    const modules = modulesOf(found)
    expect(modules.map(({ file }) => file)).to.deep.equal(["docs-page-2.ts", "docs-page-19.mts"])
    const complaints = await complaintsOf(modules)
    expect(complaints).to.have.length(1)
    expect(complaints[0]).to.match(/^docs-page-2\.ts\(9,7\): error TS2322/)
  })
})
