import type { DataSource, QueryResult, QueryRunner } from "typeorm"
import type { Connection } from "../engine/connection"
import type { StatementQueue } from "./statement-queue"

/** TypeORM's subscriber methods for what a query runner does by itself. */
const EVENTS = [
  "beforeQuery",
  "afterQuery",
  "beforeTransactionStart",
  "afterTransactionStart",
  "beforeTransactionCommit",
  "afterTransactionCommit",
  "beforeTransactionRollback",
  "afterTransactionRollback",
]

/** The session whose statements are told of. */
interface EventSource {
  /** its own */
  readonly runner: QueryRunner
  readonly queue: StatementQueue
}

/** Tells TypeORM's logger and subscribers what a session sends. */
export class QueryEvents {
  constructor(
    private readonly dataSource: DataSource,
    private readonly session: EventSource,
  ) {}

  log(text: string, parameters?: readonly unknown[], prefix: readonly string[] = []): void {
    const { logger } = this.dataSource
    for (const statement of prefix) logger.logQuery(statement, undefined, this.session.runner)
    logger.logQuery(text, parameters as unknown[], this.session.runner)
  }

  logError(error: unknown, text: string, parameters?: readonly unknown[]): void {
    this.dataSource.logger.logQueryError(error as Error, text, parameters as unknown[], this.session.runner)
  }

  /** Runs a statement between its events; the error of one that fails is for the caller to log. */
  execute(
    connection: Connection,
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    this.log(text, parameters, prefix)
    const limitMs = this.dataSource.options.maxQueryExecutionTime
    if (!limitMs && !this.isHeard) return connection.execute(text, parameters, prefix)
    return this.#timed(() => connection.execute(text, parameters, prefix), text, parameters, limitMs)
  }

  /** What a subscriber sends by the event's manager is part of the step that runs, and does not wait for its end. */
  async broadcast(event: string, ...details: unknown[]): Promise<void> {
    if (!this.isHeard) return
    const broadcaster = this.session.runner.broadcaster as unknown as {
      broadcast(event: string, ...details: unknown[]): Promise<void>
    }
    await this.session.queue.reenter(() => broadcaster.broadcast(event, ...details))
  }

  async #timed(
    send: () => Promise<QueryResult>,
    text: string,
    parameters: readonly unknown[] | undefined,
    limitMs: number | undefined,
  ): Promise<QueryResult> {
    await this.broadcast("BeforeQuery", text, parameters)
    const startedAt = Date.now()
    let result: QueryResult
    try {
      result = await send()
    } catch (error) {
      await this.broadcast("AfterQuery", text, parameters, false, undefined, undefined, error)
      throw error
    }
    const elapsedMs = Date.now() - startedAt
    const { dataSource, session } = this
    if (limitMs && elapsedMs > limitMs) {
      dataSource.logger.logQuerySlow(elapsedMs, text, parameters as unknown[], session.runner)
    }
    await this.broadcast("AfterQuery", text, parameters, true, elapsedMs, result.raw)
    return result
  }

  /** Whether any subscriber listens to statements or transactions; those that listen to entities only cost nothing here. */
  get isHeard(): boolean {
    const { subscribers } = this.dataSource
    return subscribers.length > 0 && subscribers.some((subscriber) => EVENTS.some((event) => event in subscriber))
  }
}
