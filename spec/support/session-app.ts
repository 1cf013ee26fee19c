import Koa from "koa"
import { Controller, Ctx, Get, JsonController, Post } from "routing-controllers"
import { Container } from "typedi"
import { Session } from "../../src/decorators/session"
import { type SessionServerOptions, useKoaServer } from "../../src/koa/use-koa-server"
import { SessionMaker, type SessionMakerOptions } from "../../src/session/session-maker"
import type { CreatedDatabase, Row, TestDatabase } from "./databases"
import { type Listening, listen } from "./http"
import { httpEntities } from "./http-entities"
import { collectKoaErrors, type KoaErrors } from "./koa-errors"
import { createSqliteLog } from "./sqlite-log"
import { type StatementLog, verbOf } from "./statement-log"
import { startWireLog, type WireLog } from "./wire-log"

/** What the actions of `JsonActions` and `TextActions` do; each application has its own. */
export type Work = (session: Session, ctx: Koa.Context) => unknown

/** `GET`, `HEAD` and `POST /json` do the application's work, with the session that its options say. */
@JsonController("/json")
export class JsonActions {
  @Get("/")
  get(@Session() session: Session, @Ctx() ctx: Koa.Context): unknown {
    return workOf(ctx)(session, ctx)
  }

  @Post("/")
  post(@Session() session: Session, @Ctx() ctx: Koa.Context): unknown {
    return workOf(ctx)(session, ctx)
  }
}

/** The same at `/text`, with a controller whose errors are text. */
@Controller("/text")
export class TextActions {
  @Get("/")
  get(@Session() session: Session, @Ctx() ctx: Koa.Context): unknown {
    return workOf(ctx)(session, ctx)
  }

  @Post("/")
  post(@Session() session: Session, @Ctx() ctx: Koa.Context): unknown {
    return workOf(ctx)(session, ctx)
  }
}

function workOf(ctx: Koa.Context): Work {
  return ctx.app.context.work as Work
}

export interface SessionAppOptions extends SessionServerOptions {
  readonly work?: Work
  readonly maker?: SessionMakerOptions
  /** false: no proxy of its own in front of PostgreSQL, for specs that bring one; `log` is then empty. Default true. */
  readonly watchWire?: boolean
  /** Called before `useKoaServer()`. */
  readonly prepare?: (app: Koa) => void
  /** Called after `useKoaServer()`. */
  readonly extend?: (app: Koa) => void
}

/** An application on a free port, its database with the tables of `httpEntities`, and all that can be seen of both. */
export interface SessionApp {
  readonly app: Koa
  readonly http: Listening
  /** What the actions do from now on. */
  work: Work
  readonly maker: SessionMaker
  /** Below TypeORM: the wire, or the driver's trace. Empty at the start. */
  readonly log: StatementLog
  /** PostgreSQL only. */
  readonly wire: WireLog | undefined
  readonly errors: KoaErrors
  readonly database: CreatedDatabase
  /** Reads on a connection of its own; an in-memory database has only that of the maker. Not in the log. */
  rows(sql: string): Promise<Row[]>
  /** Waits until no session is open, and fails where one stays open. */
  settled(): Promise<void>
  stop(): Promise<void>
}

/** Registers a maker in typedi's container and serves controllers with it. */
export async function startSessionApp(
  testDatabase: TestDatabase,
  options: SessionAppOptions = {},
): Promise<SessionApp> {
  const { work, maker: makerOptions, watchWire = true, prepare, extend, ...server } = options
  const database = await testDatabase.createDatabase()
  const wire = watchWire && testDatabase.kind === "postgres" ? await startWireLog(database.uri) : undefined
  const trace = createSqliteLog()
  const isSqlite = testDatabase.kind === "sqlite"
  const maker = new SessionMaker(wire?.uri ?? database.uri, {
    entities: httpEntities,
    // When it starts: the catalog is asked once, behind it.
    synchronize: true,
    ...(isSqlite && { verbose: trace.verbose }),
    ...makerOptions,
  })
  const dataSource = await maker.dataSource()
  const log = wire ?? withoutPragmas(trace)
  log.clear()
  Container.set(SessionMaker, maker)

  const app = new Koa()
  const errors = collectKoaErrors(app)
  app.context.work = work ?? (() => "done")
  prepare?.(app)
  useKoaServer(app, { controllers: [JsonActions, TextActions], ...server })
  extend?.(app)
  const http = await listen(app)
  const second = testDatabase.name === "SQLite memory" ? undefined : await database.open()

  return {
    app,
    http,
    maker,
    log,
    wire,
    errors,
    database,
    get work() {
      return app.context.work as Work
    },
    set work(next: Work) {
      app.context.work = next
    },
    rows: (sql) => (second ? second.query(sql) : (dataSource.query(sql) as Promise<Row[]>)),
    settled: () => settled(maker),
    async stop() {
      await http.close()
      try {
        await settled(maker)
      } finally {
        await maker.close({ timeoutMs: 1 })
        Container.remove(SessionMaker)
        await wire?.stop()
        await database.drop()
      }
    },
  }
}

/** The response reaches the client before the server has done all that comes after it. */
async function settled(maker: SessionMaker): Promise<void> {
  const deadline = performance.now() + 2_000
  while (maker.stats().open > 0) {
    if (performance.now() > deadline) throw new Error(`Sessions stay open: ${JSON.stringify(maker.stats())}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** A new SQLite connection is set up with PRAGMA statements, at the first use of each. */
function withoutPragmas(log: StatementLog): StatementLog {
  const statements = () => log.statements().filter((statement) => verbOf(statement) !== "PRAGMA")
  return { statements, verbs: () => statements().map(verbOf), clear: () => log.clear() }
}
