import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { repositoryTop } from "../spec/support/sources"

const FILE = join(repositoryTop, "bench", "RESULTS.md")
const BEGIN = "<!-- Written by npm run bench; what is outside of these marks stays. -->"
const END = "<!-- End of what npm run bench writes. -->"

/** Puts the last run into `bench/RESULTS.md`, in place of the one before. */
export function writeResults(text: string): void {
  const old = existsSync(FILE) ? readFileSync(FILE, "utf8") : `# Results of the bench\n\n${BEGIN}\n${END}\n`
  const [start, end] = [old.indexOf(BEGIN), old.indexOf(END)]
  if (start < 0 || end < start)
    throw new Error("bench/RESULTS.md has lost the marks that npm run bench writes between.")
  writeFileSync(FILE, `${old.slice(0, start)}${BEGIN}\n\n${text}\n\n${old.slice(end)}`)
}
