import type { Session } from "../../../src/decorators/session"
import { Deferred } from "../../support/deferred"
import { Note } from "../../support/http-entities"
import type { SessionApp } from "../../support/session-app"
import { eventually } from "./eventually"

/** Requests that hold every connection of the pool until they are let go. */
export interface Occupied {
  release(): void
  readonly statuses: Promise<number[]>
}

/** A statement that holds a connection; it writes, so that SQLite's write lock is held as well. */
export function hold(db: Session, text: string): Promise<unknown> {
  return db.insert(Note, { text })
}

/** InnoDB locks the gap around a text that was just deleted: none is used twice. */
let texts = 0

/** Fills the pool of an application with `count` requests. Afterwards its action does what `server.work` says. */
export async function occupy(server: SessionApp, count: number): Promise<Occupied> {
  const gate = new Deferred()
  let holding = 0
  server.work = async (db) => {
    await hold(db, `holder ${texts++}`)
    holding++
    await gate.promise
    return { ok: true }
  }
  const replies = Array.from({ length: count }, () => server.http.post("/json"))
  await eventually("the pool is full", () => holding === count)
  return {
    release: () => gate.resolve(),
    statuses: Promise.all(replies).then((all) => all.map(({ status }) => status)),
  }
}
