/** Compiles, or does not: what users may write with a session and its maker, and what they may not. */
import { DataSource, EntityManager } from "typeorm"
import {
  buildDataSource,
  contextSession,
  createDataSource,
  Session,
  SessionMaker,
  type SessionMakerStats,
} from "../../src"
import { Note } from "../support/http-entities"

declare const session: Session

export function sessionIsAnEntityManager(): EntityManager {
  return session
}

export async function uses(): Promise<void> {
  const inTransaction: boolean = session.inTransaction
  const closed: boolean = session.closed
  await session.commit()
  await session.rollback()
  await session.close()
  session.afterCommit(() => undefined)
  session.afterRollback(async () => inTransaction && closed)
  const note: Note = await session.findOneByOrFail(Note, { id: 1 })
  const nested: number = await session.transaction(async (inner: Session) => {
    inner.afterCommit(() => note.text)
    return inner.count(Note)
  })
  await session.transaction("SERIALIZABLE", async () => nested)
}

export class Controller {
  asParameter(
    @Session() db: Session,
    @Session({ readOnly: true, commit: "manual" }) other: Session,
  ): Promise<number[]> {
    return Promise.all([db.count(Note), other.count(Note)])
  }
}

export async function misuses(): Promise<void> {
  // @ts-expect-error A session is made by a maker or a request, not by `new`.
  new Session({})
  // @ts-expect-error There is no such property.
  session.begin()
  // @ts-expect-error A hook is a function.
  session.afterCommit("done")
  // @ts-expect-error The state is read-only.
  session.inTransaction = true
  // @ts-expect-error Whether it is closed is read-only.
  session.closed = false
  // @ts-expect-error No such isolation level.
  await session.transaction("READ SIDEWAYS", async () => undefined)
  // @ts-expect-error What it resolves with is not a string.
  const text: string = await session.transaction(async () => 1)
  return text as unknown as undefined
}

export async function makers(): Promise<void> {
  const maker = new SessionMaker("sqlite://", { poolSize: 5, acquireTimeoutMs: 1_000, isolation: "SERIALIZABLE" })
  new SessionMaker()
  new SessionMaker({ type: "better-sqlite3", database: ":memory:" })
  new SessionMaker(new DataSource({ type: "postgres" }))
  new SessionMaker(() => "sqlite://")
  new SessionMaker(buildDataSource("postgres://localhost/app"), { answerTimeoutMs: 5, resolveCommits: true })
  const built: DataSource = buildDataSource({ type: "postgres" }, { migrations: [], poolSize: 5 })
  new SessionMaker(async () => new DataSource({ type: "postgres" }), { commit: "manual", retries: 3, readOnly: true })
  maker.databaseUri = "postgres://localhost/app"
  const uri: string | undefined = maker.databaseUri
  const dataSource: DataSource = await maker.dataSource()
  await (await maker.createDataSource()).destroy()
  await using opened = await maker.open({ commit: "before-response", timeoutMs: 5 })
  const id: number = await maker.run(async (inner) => (await inner.save(Note, { text: "a" })).id)
  const sync: string = await maker.run(() => "sync", { retries: 2 })
  const stats: SessionMakerStats = maker.stats()
  const max: number = stats.pool.max
  await maker.reset()
  await maker.close({ timeoutMs: 10 })
  await maker[Symbol.asyncDispose]()
  maker.destroy()
  await contextSession(dataSource, (inner) => inner.count(Note), { readOnly: true })
  await createDataSource("sqlite://", { synchronize: true })
  await built.destroy()
  await opened.save(Note, { text: `${uri} ${id} ${sync} ${max}` })
}

export async function makerMisuses(maker: SessionMaker, dataSource: DataSource): Promise<void> {
  // @ts-expect-error A number is no database.
  new SessionMaker(42)
  // @ts-expect-error No such commit timing.
  new SessionMaker("sqlite://", { commit: "sometimes" })
  // @ts-expect-error No such option.
  new SessionMaker("sqlite://", { aquireTimeoutMs: 5 })
  // @ts-expect-error No such option.
  buildDataSource("sqlite://", { poolsize: 5 })
  // @ts-expect-error It is the maker's alone.
  await maker.run(async () => 1, { resolveCommits: true })
  // @ts-expect-error Times are numbers of milliseconds.
  new SessionMaker("sqlite://", { timeoutMs: "5s" })
  // @ts-expect-error No such isolation level.
  await maker.open({ isolation: "READ SIDEWAYS" })
  // @ts-expect-error `maker` is an option of `@Session()`, not of a maker's own sessions.
  await maker.open({ maker: SessionMaker })
  // @ts-expect-error It needs a function.
  await maker.run()
  // @ts-expect-error What fn resolves with is not a string.
  const text: string = await maker.run(async () => 1)
  // @ts-expect-error The numbers are read-only.
  maker.stats().open = 1
  // @ts-expect-error It needs a DataSource, not a URI.
  await contextSession("sqlite://", async () => text)
  // @ts-expect-error No such option.
  await contextSession(dataSource, async () => undefined, { poolSize: 5 })
}

export class DecoratorMisuses {
  // @ts-expect-error No such option.
  unknownOption(@Session({ comit: "manual" }) db: Session): Session {
    return db
  }

  // @ts-expect-error Options are an object.
  noObject(@Session("manual") db: Session): Session {
    return db
  }
}
