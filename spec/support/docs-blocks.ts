import type { Source } from "./sources"

/** A fenced TypeScript block of a page. */
export interface DocsBlock {
  readonly page: string
  /** Line of the opening fence, from 1. */
  readonly line: number
  readonly code: string
  /** Reason of a `ts skip: reason` block, which is not compiled. */
  readonly skip: string | undefined
  /** True for a `ts continued` block, which is compiled behind the block before it. */
  readonly continued: boolean
}

/** The fenced `ts` and `typescript` blocks of a page, in order. */
export function blocksOf({ path, text }: Source): DocsBlock[] {
  const blocks: DocsBlock[] = []
  let open: { line: number; info: string; fence: string; code: string[] } | undefined
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^\s*(`{3,}|~{3,})(.*)$/.exec(line)
    if (open === undefined) {
      if (fence !== null) open = { line: index + 1, info: fence[2]?.trim() ?? "", fence: fence[1] ?? "", code: [] }
    } else if (fence !== null && fence[2]?.trim() === "" && fence[1]?.startsWith(open.fence) === true) {
      if (/^(?:ts|typescript)\b/.test(open.info)) blocks.push(block(path, open))
      open = undefined
    } else {
      open.code.push(line)
    }
  }
  return blocks
}

function block(page: string, { line, info, code }: { line: number; info: string; code: string[] }): DocsBlock {
  return {
    page,
    line,
    code: code.join("\n"),
    skip: /^\w+\s+skip:?(.*)$/.exec(info)?.[1]?.trim(),
    continued: /^\w+\s+continued\b/.test(info),
  }
}

/** A module to compile, and the page that its lines are numbered after. */
export interface DocsModule {
  readonly file: string
  readonly page: string
  readonly text: string
}

/** Joins continued blocks to modules in which every line has the number that it has on its page. */
export function modulesOf(blocks: readonly DocsBlock[]): DocsModule[] {
  const groups: DocsBlock[][] = []
  for (const one of blocks.filter(({ skip }) => skip === undefined)) {
    const last = groups.at(-1)
    if (one.continued && last?.[0]?.page === one.page) last.push(one)
    else groups.push([one])
  }
  return groups.map((group) => {
    const { page, line } = group[0] as DocsBlock
    let text = ""
    for (const one of group) text = `${text}${"\n".repeat(one.line - (text.split("\n").length - 1))}${one.code}\n`
    // Without an import or export of its own a file would share one scope with all others.
    text += "export {}\n"
    const awaits = /^(?:(?:const|let|await|for await|export const)\b.*)?\bawait\b/m.test(text)
    const name = page
      .replace(/\.md$/, "")
      .replace(/[^a-zA-Z0-9]+/g, "-")
      .toLowerCase()
    // Only an ES module may await at its top.
    return { file: `${name}-${line}.${awaits ? "mts" : "ts"}`, page, text }
  })
}
