import Koa from "koa"
import {
  Ctx,
  Get,
  JsonController,
  Post,
  type RoutingControllersOptions,
  useKoaServer as useDriver,
} from "routing-controllers"
import { DataSource, type EntityManager, type QueryRunner } from "typeorm"
import { type Listening, listen } from "../../support/http"
import { httpEntities } from "../../support/http-entities"
import { startWireLog, type WireLog } from "../../support/wire-log"
import { createGate, type Gate } from "../support/gate"
import { startPrivateDatabase } from "./database"

export type Work = (manager: EntityManager, ctx: Koa.Context, runner: QueryRunner) => unknown

/** What TypeORM's documentation shows for a transaction by hand, with routing-controllers' own server. */
export async function inTransaction(dataSource: DataSource, ctx: Koa.Context, work: Work): Promise<unknown> {
  const runner = dataSource.createQueryRunner()
  await runner.connect()
  await runner.startTransaction()
  try {
    const result = await work(runner.manager, ctx, runner)
    await runner.commitTransaction()
    return result
  } catch (error) {
    await runner.rollbackTransaction()
    throw error
  } finally {
    await runner.release()
  }
}

@JsonController("/json")
class ByHandController {
  @Get("/")
  get(@Ctx() ctx: Koa.Context): unknown {
    return act(ctx)
  }

  @Post("/")
  post(@Ctx() ctx: Koa.Context): unknown {
    return act(ctx)
  }
}

function act(ctx: Koa.Context): unknown {
  const { byHand } = ctx.app.context as unknown as { byHand: ByHandApp }
  return inTransaction(byHand.dataSource, ctx, byHand.work)
}

export interface ByHandApp {
  readonly dataSource: DataSource
  readonly http: Listening
  readonly wire: WireLog
  /** in front of the wire log */
  readonly gate: Gate
  readonly emitted: unknown[]
  work: Work
  /** Reads on a connection of its own. */
  rows(sql: string): Promise<Record<string, unknown>[]>
}

/** An application on a free port and a database of its own; nothing is closed: the process of a scenario ends as a whole. */
export async function startByHandApp(
  poolSize: number,
  options: RoutingControllersOptions = {},
  more: { readonly extra?: object } = {},
): Promise<ByHandApp> {
  const { uri, rows } = await startPrivateDatabase()
  const wire = await startWireLog(uri)
  const gate = await createGate(wire.uri, 5432)
  await gate.open()
  const dataSource = new DataSource({ type: "postgres", url: gate.uri, entities: httpEntities, poolSize, ...more })
  await dataSource.initialize()
  await dataSource.synchronize()
  const app = new Koa()
  const emitted: unknown[] = []
  app.on("error", (error) => emitted.push(error))
  useDriver(app, { controllers: [ByHandController], ...options })
  const byHand: ByHandApp = { dataSource, http: await listen(app), wire, gate, emitted, work: () => "done", rows }
  app.context.byHand = byHand
  return byHand
}
