import { expect } from "chai"
import { Column, Entity, In, PrimaryColumn, PrimaryGeneratedColumn, ViewColumn, ViewEntity } from "typeorm"
import type { Session } from "../../src/session/session"
import { type DatabaseKind, describeOnEach, type Row } from "../support/databases"
import { Deferred } from "../support/deferred"
import { httpEntities } from "../support/http-entities"
import { sessionDatabases } from "../support/session-databases"
import { type SessionFixture, useSessions } from "../support/session-fixture"

/**
 * Random programs of several sessions, step by step in one order, from the same start state, with `deferBegin` and without:
 * nothing that a program can see may differ.
 */

@Entity()
class Cell {
  @PrimaryColumn()
  id!: number

  @Column()
  value!: number
}

@ViewEntity({ expression: "SELECT id, value FROM cell WHERE value > 1" })
class HighCell {
  @ViewColumn()
  id!: number

  @ViewColumn()
  value!: number
}

@Entity()
class Entry {
  @PrimaryGeneratedColumn()
  id!: number

  @Column({ length: 40 })
  text!: string
}

const PROGRAMS = 100
const CELL_IDS = [1, 2, 3, 4, 5, 6]
/** The others are there to be inserted. */
const CELLS_AT_START = [1, 2, 3, 4]
const SESSIONS_AT_MOST = 3
const DEEPEST_BLOCK = 2

interface Step {
  readonly session: number
  readonly name: string
  /** ids of cells: of these, an operation that locks touches no other */
  readonly ids: readonly number[]
  readonly value: number
}

interface Operation {
  readonly weight: number
  /**
   * "rows": names only cells that no other session may have locked, or it would wait; "try": names cells that another one may
   * have locked, where there are any. Either asks for one cell at a time: MariaDB may lock more rows than it finds where it
   * looks for several.
   */
  readonly locks?: "rows" | "try"
  readonly only?: DatabaseKind
  readonly does: (session: Session, step: Step, actor: Actor) => Promise<unknown> | unknown
}

const list = (ids: readonly number[]) => ids.join(", ")
const first = ({ ids }: Step) => ids[0] ?? 0
const locking = (step: Step) => `SELECT id, value FROM cell WHERE id = ${first(step)} FOR UPDATE`

const operations: Readonly<Record<string, Operation>> = {
  find: { weight: 8, does: (db) => db.find(Cell, { order: { id: "ASC" } }) },
  findOneBy: { weight: 6, does: (db, step) => db.findOneBy(Cell, { id: first(step) }) },
  count: { weight: 4, does: (db, { ids }) => db.countBy(Cell, { id: In([...ids]) }) },
  exists: { weight: 2, does: (db, { value }) => db.existsBy(Cell, { value }) },
  join: {
    weight: 4,
    does: (db, { value }) =>
      db
        .createQueryBuilder(Cell, "one")
        .innerJoin(Cell, "two", "two.id = one.id + 1")
        .select(["one.id AS id", "one.value + two.value AS total"])
        .where("two.value >= :value", { value })
        .orderBy("one.id")
        .getRawMany(),
  },
  subquery: {
    weight: 3,
    does: (db) =>
      db
        .createQueryBuilder(Cell, "cell")
        .where((query) => `cell.value = ${query.subQuery().select("MAX(other.value)").from(Cell, "other").getQuery()}`)
        .orderBy("cell.id")
        .getMany(),
  },
  entries: { weight: 2, does: (db) => db.find(Entry, { order: { id: "ASC" } }) },
  // Raw SQL begins, so that each of these ends the reads that are not in a transaction: rarely.
  rawRead: { weight: 1, does: (db, { ids }) => db.query(`SELECT * FROM cell WHERE id IN (${list(ids)}) ORDER BY id`) },
  rawSum: { weight: 1, does: (db) => db.query("SELECT sum(value) AS total, count(*) AS cells FROM cell") },
  twoTables: { weight: 1, does: (db) => db.query("SELECT c.id, e.text FROM cell c, entry e ORDER BY c.id, e.id") },
  view: { weight: 2, does: (db) => db.find(HighCell, { order: { id: "ASC" } }) },
  failingRead: { weight: 1, does: (db) => db.query("SELECT nothing FROM cell") },
  streamed: {
    weight: 2,
    does: async (db) => rowsOf(await db.createQueryBuilder(Cell, "cell").orderBy("cell.id").stream()),
  },
  insert: {
    weight: 4,
    locks: "rows",
    does: (db, step) => nothingOf(db.insert(Cell, { id: first(step), value: step.value })),
  },
  insertEntry: { weight: 2, does: (db, { value }) => nothingOf(db.insert(Entry, { text: `entry ${value}` })) },
  update: {
    weight: 4,
    locks: "rows",
    does: async (db, step) => (await db.update(Cell, { id: first(step) }, { value: step.value })).affected,
  },
  increment: {
    weight: 3,
    locks: "rows",
    does: (db, step) => nothingOf(db.increment(Cell, { id: first(step) }, "value", 1)),
  },
  delete: { weight: 3, locks: "rows", does: async (db, step) => (await db.delete(Cell, { id: first(step) })).affected },
  save: {
    weight: 4,
    locks: "rows",
    does: (db, { ids, value }) =>
      db.save(
        Cell,
        ids.map((id) => ({ id, value })),
      ),
  },
  readThenSave: {
    weight: 3,
    locks: "rows",
    does: async (db, step) => {
      const cell = await db.findOneBy(Cell, { id: first(step) })
      return cell && db.save(Cell, { ...cell, value: cell.value + step.value })
    },
  },
  lock: {
    weight: 3,
    locks: "rows",
    does: (db, step) => db.findOne(Cell, { where: { id: first(step) }, lock: { mode: "pessimistic_write" } }),
  },
  tryLock: { weight: 5, locks: "try", does: (db, step) => db.query(`${locking(step)} NOWAIT`) },
  streamedLock: {
    weight: 1,
    locks: "rows",
    does: async (db, step) => rowsOf((await db.queryRunner?.stream(locking(step))) as NodeJS.ReadableStream),
  },
  driversClient: {
    weight: 1,
    locks: "rows",
    does: async (db, step) => {
      const client = (await db.queryRunner?.connect()) as { query(text: string, done: (error: unknown) => void): void }
      const text = `UPDATE cell SET value = ${step.value} WHERE id = ${first(step)}`
      await new Promise<void>((resolve, reject) => client.query(text, (error) => (error ? reject(error) : resolve())))
    },
  },
  // What a transaction of PostgreSQL keeps to its end, and what shows whether two statements share one.
  advisoryLock: {
    weight: 3,
    only: "postgres",
    does: (db, { value }) => db.query(`SELECT pg_try_advisory_xact_lock(${value})`),
  },
  set: {
    weight: 1,
    only: "postgres",
    does: (db, { value }) => db.query(`SELECT set_config('spec.value', '${value}', true)`),
  },
  shown: {
    weight: 2,
    only: "postgres",
    does: (db) => db.query("SELECT coalesce(current_setting('spec.value', true), '') AS value"),
  },
  sameTransaction: {
    weight: 2,
    only: "postgres",
    does: async (db, _step, actor) => {
      const [{ began }]: [{ began: string }] = await db.query("SELECT CAST(now() AS text) AS began")
      const before = actor.lastBegan
      actor.lastBegan = began
      return before === began
    },
  },
  hooks: {
    weight: 1,
    does: (db, { value }, { heard }) => {
      db.afterCommit(() => heard.push(`committed ${value}`))
      db.afterRollback(() => heard.push(`rolled back ${value}`))
    },
  },
  enter: { weight: 3, does: (_db, _step, actor) => actor.enter() },
  leave: { weight: 3, does: (_db, _step, actor) => actor.leave("return") },
  throw: { weight: 1, does: (_db, _step, actor) => actor.leave("throw") },
  commit: { weight: 10, does: (db) => db.commit() },
  rollback: { weight: 4, does: (db) => db.rollback() },
}

/** One session of a program, and the `transaction()` blocks that it is in. */
class Actor {
  readonly heard: string[] = []
  lastBegan: string | undefined
  readonly #blocks: {
    readonly db: Session
    readonly end: Deferred<"return" | "throw">
    readonly done: Promise<void>
  }[] = []

  constructor(readonly session: Session) {}

  get #db(): Session {
    return this.#blocks.at(-1)?.db ?? this.session
  }

  perform(step: Step): Promise<unknown> {
    const operation = operations[step.name] as Operation
    return Promise.resolve(operation.does(this.#db, step, this))
  }

  /** One that is refused counts as entered: the steps inside then show what becomes of the session. */
  async enter(): Promise<void> {
    const entered = new Deferred<Session>()
    const end = new Deferred<"return" | "throw">()
    const done = this.#db.transaction(async (inner) => {
      entered.resolve(inner)
      if ((await end.promise) === "throw") throw new Error("The block threw.")
    })
    const db = await Promise.race([entered.promise, done.then(() => this.#db)]).catch(() => this.#db)
    this.#blocks.push({ db, end, done })
  }

  async leave(how: "return" | "throw"): Promise<void> {
    const block = this.#blocks.pop()
    block?.end.resolve(how)
    await block?.done
  }
}

/** @see https://gist.github.com/tommyettinger/46a874533244883189143505d203312c, mulberry32: 32 bits of state, 0 to below 1 */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * No step of a program ever waits for another session: whoever may have locked a cell counts as one of its holders until its
 * commit or rollback outside of any block.
 */
function programOf(seed: number, kind: DatabaseKind): Step[] {
  const random = randomOf(seed)
  const below = (limit: number) => Math.floor(random() * limit)
  const names = Object.entries(operations).flatMap(([name, { weight, only = kind }]) =>
    only === kind ? Array<string>(weight).fill(name) : [],
  )
  const depths = Array<number>(2 + below(SESSIONS_AT_MOST - 1)).fill(0)
  const holders = new Map(CELL_IDS.map((id) => [id, new Set<number>()]))
  const steps: Step[] = []

  const add = (session: number, name: string) => {
    const { locks } = operations[name] as Operation
    const depth = depths[session] ?? 0
    const isFree = (id: number) => [...(holders.get(id) ?? [])].every((holder) => holder === session)
    const held = CELL_IDS.filter((id) => !isFree(id))
    const candidates = locks === "rows" ? CELL_IDS.filter(isFree) : locks === "try" && held.length > 0 ? held : CELL_IDS
    const ids = [...new Set([0, 1].map(() => candidates[below(candidates.length)] ?? 0))].slice(0, 1 + below(2))
    if (candidates.length === 0) return
    if (name === "enter" ? depth === DEEPEST_BLOCK : (name === "leave" || name === "throw") && depth === 0) return
    if (locks) for (const id of ids) holders.get(id)?.add(session)
    if (name === "enter") depths[session] = depth + 1
    if (name === "leave" || name === "throw") depths[session] = depth - 1
    if (depth === 0 && (name === "commit" || name === "rollback")) {
      for (const those of holders.values()) those.delete(session)
    }
    steps.push({ session, name, ids, value: below(4) })
  }

  const length = 10 + below(15)
  while (steps.length < length) add(below(depths.length), names[below(names.length)] ?? "find")
  for (const session of depths.keys()) {
    while ((depths[session] ?? 0) > 0) add(session, random() < 0.7 ? "leave" : "throw")
    add(session, random() < 0.7 ? "commit" : "rollback")
  }
  return steps
}

/** @returns what each step came to, and then what another connection finds in the tables */
async function run(fixture: SessionFixture, program: readonly Step[], deferBegin: boolean): Promise<unknown[]> {
  await restore(fixture)
  const actors: Actor[] = []
  const seen: unknown[] = []
  try {
    const numbers = new Set(program.map(({ session }) => session))
    for (let number = 0; number <= Math.max(...numbers); number++) {
      actors.push(new Actor(await fixture.openReader({ isolation: "READ COMMITTED", deferBegin })))
    }
    for (const step of program) {
      const actor = actors[step.session] as Actor
      const outcome = await actor.perform(step).catch(async (error) => {
        if (isPostgres(fixture)) await untilIdle(fixture)
        return nameError(error)
      })
      seen.push({
        step: textOf(step),
        outcome,
        inTransaction: actor.session.inTransaction,
        heard: actor.heard.splice(0),
      })
    }
  } finally {
    for (const { session } of actors) await session.close()
  }
  const tables = [
    await fixture.rows("SELECT * FROM cell ORDER BY id"),
    await fixture.rows("SELECT * FROM entry ORDER BY id"),
  ]
  // Entities, rows of the driver and plain objects with the same values are the same.
  return JSON.parse(JSON.stringify([...seen, tables])) as unknown[]
}

/** `TRUNCATE` starts the generated ids anew. */
async function restore(fixture: SessionFixture): Promise<void> {
  await fixture.rows(isPostgres(fixture) ? "TRUNCATE entry RESTART IDENTITY" : "TRUNCATE entry")
  await fixture.rows("DELETE FROM cell")
  await fixture.rows(`INSERT INTO cell (id, value) VALUES ${CELLS_AT_START.map((id) => `(${id}, ${id})`).join(", ")}`)
}

function isPostgres({ database }: SessionFixture): boolean {
  return database.uri.startsWith("postgres")
}

/** PostgreSQL tells of an error first, and lets go of the locks of the transaction then: the next step might meet them. */
async function untilIdle({ rows }: SessionFixture): Promise<void> {
  const active =
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() " +
    "AND backend_type = 'client backend' AND state = 'active'"
  while ((await rows(active)).length > 0);
}

function nameError(error: Error & { code?: unknown; cause?: unknown }): Row {
  const { message, code } = error
  return { error: error.constructor.name, code, message }
}

async function rowsOf(stream: NodeJS.ReadableStream): Promise<unknown[]> {
  const rows: unknown[] = []
  for await (const row of stream) rows.push(row)
  return rows
}

async function nothingOf(result: Promise<unknown>): Promise<void> {
  await result
}

function textOf({ session, name, ids, value }: Step): string {
  return `session ${session}: ${name} [${list(ids)}] ${value}`
}

const servers = sessionDatabases.filter(({ kind }) => kind !== "sqlite")

describeOnEach("deferBegin", servers, (database) => {
  const fixture = useSessions(database, { entities: [...httpEntities, Cell, HighCell, Entry] })

  it(`changes nothing that ${PROGRAMS} random programs see at READ COMMITTED`, async function () {
    this.timeout(60_000)
    const begins = { deferred: 0, plain: 0 }
    const countBegins = () => fixture.log.verbs().filter((verb) => verb === "BEGIN").length
    for (let seed = 1; seed <= PROGRAMS; seed++) {
      const program = programOf(seed, database.kind)
      const title = `The program of seed ${seed}:\n${program.map(textOf).join("\n")}\n`
      const plain = await run(fixture, program, false)
      begins.plain += countBegins()
      fixture.log.clear()
      const deferred = await run(fixture, program, true)
      begins.deferred += countBegins()
      fixture.log.clear()
      expect(deferred, title).to.deep.equal(plain)
    }
    // Else nothing would have been compared with anything.
    expect(begins.deferred).to.be.within(1, 0.9 * begins.plain)
  })
})
