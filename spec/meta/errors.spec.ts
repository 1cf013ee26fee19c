import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { expect } from "chai"
import { repositoryTop } from "../support/sources"

function read(path: string): string {
  const file = join(repositoryTop, path)
  return existsSync(file) ? readFileSync(file, "utf8") : ""
}

describe("error codes", () => {
  const codes = [...read("src/errors.ts").matchAll(/"(ERR_SESSION_[A-Z0-9_]+)"/g)].map((match) => match[1])
  const headings = [...read("docs/errors.md").matchAll(/^#+ .*?(ERR_SESSION_[A-Z0-9_]+)/gm)].map((match) => match[1])

  it("belong to one class each", () => {
    expect(codes).to.not.have.length(0)
    expect(codes).to.deep.equal([...new Set(codes)])
  })

  it("have one heading each in docs/errors.md, and no heading is without its code", () => {
    expect(headings).to.have.members(codes)
  })
})
