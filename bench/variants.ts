import { prepareContenders } from "./contenders"
import { ROWS } from "./databases"
import { prepareRequests, type Requests } from "./load"
import { type ServerStart, serverScript } from "./server-process"

export type DatabaseName = "postgres" | "sqlite"

/** One way to do the work, as a server of its own. */
export interface Variant {
  readonly title: string
  readonly database: DatabaseName
  readonly args: readonly string[]
  /** whether the server is one of `bench/contenders/` */
  readonly isContender: boolean
  readonly script: string
}

function variant(
  title: string,
  script: string,
  { database = "postgres", args = [], isContender = false }: Partial<Variant> = {},
): Variant {
  return { title, script, database, args, isContender }
}

export const VARIANTS = {
  session: variant("this library", "session"),
  ambient: variant("this library, ambient: true", "session", { args: ["--ambient"] }),
  resolving: variant("this library, resolveCommits: true", "session", { args: ["--resolve-commits"] }),
  byHand: variant("by-hand transaction", "by-hand"),
  plainManager: variant("plain manager, no transaction", "plain-manager"),
  barePg: variant("bare pg, by-hand transaction", "bare-pg"),
  typeormTransactional: variant("typeorm-transactional", "typeorm-transactional", { isContender: true }),
  nestjsCls: variant("NestJS with nestjs-cls", "nestjs-cls", { isContender: true }),
  noLibrary: variant("routing-controllers alone", "no-database"),
  requestServices: variant("services of the request", "services", { args: ["--container", "request"] }),
  globalServices: variant("global services", "services", { args: ["--container", "global"] }),
  sqliteSession: variant("this library", "session", { database: "sqlite" }),
  sqliteByHand: variant("by hand, one at a time", "by-hand", { database: "sqlite", args: ["--one-at-a-time"] }),
} as const satisfies Readonly<Record<string, Variant>>

export type VariantName = keyof typeof VARIANTS

export type Work = "ping" | "read" | "write" | "services"

export const REQUESTS: Readonly<Record<Work, Requests>> = {
  ping: prepareRequests("GET", () => "/ping", 1),
  read: prepareRequests("GET", (id) => `/rows/${id}`, ROWS),
  write: prepareRequests("POST", (id) => `/rows/${id}/notes`, ROWS),
  services: prepareRequests("GET", () => "/services", 1),
}

let contenderScript: ((name: string) => string) | undefined

/** How to start the variant on a database; the contenders are installed and compiled when the first of them is asked for. */
export function startOf(name: VariantName, uri: string, nodeOptions: readonly string[] = []): ServerStart {
  const { script, args, isContender } = VARIANTS[name]
  if (!isContender) return { script: serverScript(script), uri, args, nodeOptions }
  contenderScript ??= prepareContenders()
  return { script: contenderScript(script), uri, args, nodeOptions }
}
