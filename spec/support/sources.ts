import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join, posix, relative, sep } from "node:path"

export interface Source {
  /** Relative to the top of the repository, with `/`. */
  readonly path: string
  readonly text: string
}

/** Top of the checkout: the nearest folder above with a `package.json`, wherever this file was compiled to. */
export const repositoryTop = findTop(__dirname)

/** Every file below a folder of the repository whose name ends so, sorted; none where the folder does not exist. */
export function readSources(folder: string, ending: string): Source[] {
  const start = join(repositoryTop, folder)
  if (!existsSync(start)) return []
  return readdirSync(start, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending) && !entry.parentPath.includes("node_modules"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((file) => ({
      path: relative(repositoryTop, file).split(sep).join("/"),
      text: readFileSync(file, "utf8"),
    }))
}

/** The code without comments and with empty literals, line for line: what a word stands in is then really code. */
export function codeOf(text: string): string {
  return text.replace(commentOrLiteral, (found) => {
    const lines = found.replace(/[^\n]/g, "")
    return found.startsWith("/") ? lines : `""${lines}`
  })
}

/** The modules that a source imports, in order: type imports, re-exports, `import()` and `require()` included. */
export function importsOf(text: string): string[] {
  const code = text.replace(commentOrLiteral, (found) => (found.startsWith("/") ? "" : found))
  return [...code.matchAll(importedModule)].map((match) => match[1] ?? match[2] ?? "")
}

/** The file of a relative import, `undefined` where there is none. */
export function resolveImport(from: string, specifier: string, files: ReadonlySet<string>): string | undefined {
  const base = posix.join(posix.dirname(from), specifier.replace(/\.js$/, ""))
  return [`${base}.ts`, `${base}/index.ts`].find((candidate) => files.has(candidate))
}

/** The first import cycle among the files, as the path that closes it; `undefined` where there is none. */
export function findCycle(imports: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const finished = new Set<string>()
  const path: string[] = []

  function visit(file: string): string[] | undefined {
    const start = path.indexOf(file)
    if (start >= 0) return [...path.slice(start), file]
    if (finished.has(file)) return undefined
    path.push(file)
    for (const next of imports.get(file) ?? []) {
      const cycle = visit(next)
      if (cycle !== undefined) return cycle
    }
    path.pop()
    finished.add(file)
    return undefined
  }

  for (const file of imports.keys()) {
    const cycle = visit(file)
    if (cycle !== undefined) return cycle
  }
  return undefined
}

// Literals are matched too, so that a `//` in a URI does not count as the start of a comment.
const commentOrLiteral = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`/g

const importedModule =
  /(?:^|[\n;}])\s*(?:import|export)\s+(?:type\s+)?(?:[\w$*\s{},]+?\s+from\s+)?["']([^"']+)["']|\b(?:import|require)\(\s*["']([^"']+)["']/g

function findTop(folder: string): string {
  if (existsSync(join(folder, "package.json"))) return folder
  return findTop(dirname(folder))
}
