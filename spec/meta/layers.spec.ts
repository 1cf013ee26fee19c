import { expect } from "chai"
import { findCycle, importsOf, readSources, resolveImport, type Source } from "../support/sources"

interface Layer {
  /** Layers of `src/` that this one may import, besides itself. */
  readonly below: readonly string[]
  /** Packages that may be imported here; modules of Node are free where `node` does not list them. */
  readonly packages: readonly string[]
  readonly node?: readonly string[]
}

const facts = ["errors", "diagnostics", "settings", "columns"]
const core = [...facts, "engine", "session", "request"]
const adapters = ["koa", "typedi", "decorators"]

const layers: Record<string, Layer> = {
  errors: { below: [], packages: [], node: [] },
  diagnostics: { below: ["errors"], packages: [], node: ["node:diagnostics_channel"] },
  settings: { below: ["errors"], packages: ["class-validator", "class-transformer"] },
  columns: { below: ["errors"], packages: ["typeorm"] },
  engine: { below: facts, packages: ["typeorm"] },
  session: { below: [...facts, "engine"], packages: ["typeorm", "typedi"] },
  request: { below: [...facts, "engine", "session"], packages: ["typeorm", "typedi", "koa", "on-finished"] },
  koa: { below: core, packages: ["typeorm", "koa", "routing-controllers", "on-finished", "typedi"] },
  typedi: { below: [...core, "koa"], packages: ["typedi", "koa", "routing-controllers"] },
  decorators: { below: [...core, "koa"], packages: ["routing-controllers"] },
  testing: { below: [...core, ...adapters], packages: ["typeorm", "typedi"] },
  inspector: { below: [...core, ...adapters], packages: ["typeorm", "koa"] },
  index: { below: [...core, ...adapters], packages: [], node: [] },
}

function layerOf(path: string): string {
  return /^src\/([^/]+?)(?:\.ts|\/.*)$/.exec(path)?.[1] ?? path
}

function packageOf(specifier: string): string {
  return /^(?:@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? specifier
}

function isAllowed(layer: Layer, from: string, specifier: string, files: ReadonlySet<string>): boolean {
  if (specifier.startsWith("node:")) return layer.node?.includes(specifier) ?? true
  if (!specifier.startsWith(".")) return layer.packages.includes(packageOf(specifier))
  const target = resolveImport(from, specifier, files)
  return target !== undefined && [layerOf(from), ...layer.below].includes(layerOf(target))
}

/** Every import that the table refuses, as `file -> module`. */
function refusedImports(sources: readonly Source[]): string[] {
  const files = new Set(sources.map(({ path }) => path))
  return sources.flatMap(({ path, text }) => {
    const layer = layers[layerOf(path)]
    if (layer === undefined) return [`${path}: no such layer`]
    return importsOf(text)
      .filter((specifier) => !isAllowed(layer, path, specifier, files))
      .map((specifier) => `${path} -> ${specifier}`)
  })
}

function importGraph(sources: readonly Source[]): Map<string, string[]> {
  const files = new Set(sources.map(({ path }) => path))
  return new Map(
    sources.map(({ path, text }) => {
      const targets = importsOf(text).map((specifier) => resolveImport(path, specifier, files))
      return [path, targets.filter((target) => target !== undefined)]
    }),
  )
}

describe("layers of src/", () => {
  const sources = readSources("src", ".ts")

  it("import only the layers below them and the packages named for them", () => {
    expect(sources).to.not.have.length(0)
    expect(refusedImports(sources)).to.deep.equal([])
  })

  it("have no import cycle, type imports included", () => {
    expect(findCycle(importGraph(sources))).to.equal(undefined)
  })

  it("leave process.env to settings", () => {
    const readers = sources.filter(({ text }) => /\bprocess\.env\b/.test(text)).map(({ path }) => layerOf(path))
    expect([...new Set(readers)]).to.satisfy((found: string[]) => found.every((layer) => layer === "settings"))
  })
})

describe("the check of layers", () => {
  const engine = { path: "src/engine/pool.ts", text: "" }

  function refused(path: string, text: string): string[] {
    return refusedImports([{ path, text }, engine])
  }

  it("refuses an import of a layer above, whatever its form", () => {
    const forms = [
      'import { a } from "../engine/pool"',
      'import type { A } from "../engine/pool"',
      'import {\n  a,\n  type B,\n} from "../engine/pool"',
      'import * as pool from "../engine/pool"',
      'import "../engine/pool.js"',
      'export { a } from "../engine/pool"',
      'export * from "../engine/pool"',
      'const pool = await import("../engine/pool.js")',
      'type A = import("../engine/pool.js").A',
      'const pool = require("../engine/pool.js")',
    ]
    for (const form of forms) {
      expect(refused("src/settings/uri.ts", form), form).to.have.length(1)
      expect(refused("src/session/maker.ts", form), form).to.deep.equal([])
    }
  })

  it("refuses a package, a module of Node or a file that is not named", () => {
    expect(refused("src/engine/a.ts", 'import Koa from "koa"')).to.have.length(1)
    expect(refused("src/koa/a.ts", 'import Koa from "koa"')).to.have.length(0)
    expect(refused("src/engine/a.ts", 'import { A } from "typeorm/driver/a"')).to.have.length(0)
    expect(refused("src/diagnostics/a.ts", 'import { x } from "node:fs"')).to.have.length(1)
    expect(refused("src/engine/a.ts", 'import { x } from "./missing"')).to.have.length(1)
    expect(refused("src/helpers/a.ts", "")).to.deep.equal(["src/helpers/a.ts: no such layer"])
  })

  it("overlooks imports in comments", () => {
    const text = '/**\n * @example\n * import Koa from "koa"\n */\n// import Koa from "koa"\nconst uri = "sqlite://"'
    expect(importsOf(text)).to.deep.equal([])
  })

  it("finds a cycle and says its path", () => {
    const imports = new Map([
      ["a", ["b", "c"]],
      ["b", []],
      ["c", ["d"]],
      ["d", ["c"]],
    ])
    expect(findCycle(imports)).to.deep.equal(["c", "d", "c"])
  })
})
