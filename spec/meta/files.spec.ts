import { basename } from "node:path"
import { expect } from "chai"
import { codeOf, readSources } from "../support/sources"

const maxLines = 500

function matchesIn(folders: readonly string[], pattern: RegExp): string[] {
  return folders
    .flatMap((folder) => readSources(folder, ".ts"))
    .flatMap(({ path, text }) =>
      codeOf(text)
        .split("\n")
        .flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}`] : [])),
    )
}

describe("files of src/", () => {
  it(`have at most ${maxLines} lines`, () => {
    const sources = readSources("src", ".ts")
    expect(sources).to.not.have.length(0)
    expect(sources.filter(({ text }) => text.split("\n").length - 1 > maxLines).map(({ path }) => path)).to.be.empty
  })

  it("hold no any", () => {
    expect(matchesIn(["src"], /(?:[:<|&,=(]|\bas)\s*any\b/)).to.be.empty
  })

  it("hold no enum and no namespace", () => {
    expect(matchesIn(["src"], /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?(?:enum|namespace)\s+\w/)).to.be.empty
  })

  it("hold no default export and no star export", () => {
    expect(matchesIn(["src"], /^\s*export\s+(?:default\b|\*|=)|\bas\s+default\b/)).to.be.empty
  })

  it("throw no bare Error", () => {
    expect(matchesIn(["src"], /\b(?:throw\s|reject\()\s*new Error\(/)).to.be.empty
  })

  it("have no utils.ts", () => {
    const names = readSources("src", ".ts").map(({ path }) => basename(path))
    expect(names.filter((name) => /^(?:utils?|helpers?|common|misc)\.ts$/.test(name))).to.be.empty
  })
})

describe("files of src/, spec/, demo/ and bench/", () => {
  it("have kebab-case names", () => {
    const paths = ["src", "spec", "demo", "bench"]
      .flatMap((folder) => readSources(folder, ".ts"))
      .map((one) => one.path)
    const isKebab = (path: string) =>
      path.split("/").every((part) => /^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z]+)*$/.test(part))
    expect(paths.filter((path) => !isKebab(path))).to.be.empty
  })
})

describe("files of spec/", () => {
  it("are named *.spec.ts outside support/, by-hand/ and types/, so that they run", () => {
    const paths = readSources("spec", ".ts").map(({ path }) => path)
    const isElsewhere = (path: string) =>
      /^spec\/(?:(?:\w+\/)?support\/|reliability\/by-hand\/|types\/|setup\.ts$)/.test(path)
    expect(paths.filter((path) => !isElsewhere(path) && !path.endsWith(".spec.ts"))).to.be.empty
    expect(paths.filter((path) => isElsewhere(path) && path.endsWith(".spec.ts"))).to.be.empty
  })

  it("mirror src/ in their folders", () => {
    const layers = readSources("src", ".ts").map(({ path }) => path.split("/")[1] ?? "")
    const known = new Set([...layers, "http", "issues", "meta", "reliability", "services", "support", "types"])
    const folders = readSources("spec", ".ts").flatMap(({ path }) => {
      const [, folder, file] = path.split("/")
      return file === undefined ? [] : [folder ?? ""]
    })
    expect(folders.filter((folder) => !known.has(folder))).to.be.empty
  })

  it("run all: none is exclusive or skipped by hand", () => {
    expect(matchesIn(["spec", "demo"], /\b(?:describe|context|it)\.(?:only|skip)\(/)).to.be.empty
  })
})

describe("codeOf()", () => {
  it("drops comments and the inside of literals, and keeps the lines", () => {
    const text = 'a("http://x") // any\n/* enum\n default */ b(`any\n`)'
    expect(codeOf(text).split("\n")).to.deep.equal(['a("") ', "", ' b(""', ")"])
  })
})
