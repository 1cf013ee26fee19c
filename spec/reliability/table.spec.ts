import { expect } from "chai"
import { readSources } from "../support/sources"

describe("docs/reliability.md", () => {
  const page = readSources("docs", ".md").find(({ path }) => path === "docs/reliability.md")?.text ?? ""
  const specs = readSources("spec", ".spec.ts").filter(({ path }) => !path.endsWith("/table.spec.ts"))
  const pathOf = (name: string) => `spec/${name.includes("/") ? name : `reliability/${name}`}`
  const cited = [...page.matchAll(/`([a-z/-]+\.spec\.ts)`/g)].map((match) => match[1] ?? "")

  it("names specs that there are", () => {
    expect(cited).to.have.length.above(20)
    const paths = specs.map(({ path }) => path)
    expect(cited.filter((name) => !paths.includes(pathOf(name)))).to.deep.equal([])
  })

  it("quotes titles that the specs have", () => {
    const quotes = [...page.matchAll(/`([a-z/-]+\.spec\.ts)`: ((?:"(?:\\"|[^"])*"(?:, )?)+)/g)].flatMap(
      ([, name = "", titles = ""]) =>
        [...titles.matchAll(/"((?:\\"|[^"])*)"/g)].map(([, title = ""]) => ({ name, title })),
    )
    expect(quotes).to.have.length.above(20)
    const missing = quotes.filter(({ name, title }) => {
      const text = specs.find(({ path }) => path === pathOf(name))?.text ?? ""
      return !text.includes(title) && !isTemplated(text, title.replaceAll('\\"', '"'))
    })
    expect(missing).to.deep.equal([])
  })
})

/** Whether a title with values in it comes from a template of the spec. */
function isTemplated(text: string, title: string): boolean {
  const templates = [...text.matchAll(/\bit\(`([^`]+)`/g)].map((match) => match[1] ?? "")
  return templates.some((template) => {
    const parts = template.split(/\$\{[^}]*\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
    return new RegExp(`^${parts.join(".*")}$`).test(title)
  })
}
