import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect } from "chai"
import { repositoryTop } from "../support/sources"

// Written so that no pattern finds itself.
const forbidden: Record<string, RegExp> = {
  "a registry's host":
    /registry[.](?:npmjs|yarnpkg|npmmirror)|\/\/[^/\s"'`]*\b(?:registry|artifactory|verdaccio|nexus)\b/i,
  "a path of one machine": /(?<![\w.*-])\/(?:work|root|home\/\w+|Users\/\w+)\/|\/tmp\/[b]ash/,
}

/** Tracked files, and new ones that are not ignored: what the next commit may hold. */
function repositoryFiles(): string[] {
  const listing = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: repositoryTop,
    encoding: "utf8",
  })
  return listing.split("\0").filter((path) => path !== "")
}

/** `undefined` for a file that is deleted but not yet committed so, and for one that is not text. */
function textOf(path: string): string | undefined {
  try {
    const text = readFileSync(join(repositoryTop, path), "utf8")
    return text.includes("\0") ? undefined : text
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw error
  }
}

describe("files of the repository", () => {
  for (const [what, pattern] of Object.entries(forbidden)) {
    it(`do not name ${what}`, () => {
      const files = repositoryFiles()
      expect(files).to.include("package.json")
      expect(files.filter((path) => pattern.test(textOf(path) ?? ""))).to.deep.equal([])
    })
  }

  it("leave out of package-lock.json where packages come from", () => {
    const lock = JSON.parse(textOf("package-lock.json") ?? "{}") as { packages: Record<string, { resolved?: string }> }
    const resolved = Object.entries(lock.packages).filter(([, { resolved }]) => resolved !== undefined)
    expect(resolved.map(([name]) => name)).to.deep.equal([])
  })
})
