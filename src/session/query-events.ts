import type { DataSource, QueryResult, QueryRunner } from "typeorm"
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

/** Tells TypeORM's logger and subscribers what a session sends. */
export class QueryEvents {
  constructor(
    private readonly dataSource: DataSource,
    private readonly runner: () => QueryRunner,
    private readonly queue: StatementQueue,
  ) {}

  log(text: string, parameters?: readonly unknown[], prefix: readonly string[] = []): void {
    const { logger } = this.dataSource
    for (const statement of prefix) logger.logQuery(statement, undefined, this.runner())
    logger.logQuery(text, parameters as unknown[], this.runner())
  }

  logError(error: unknown, text: string, parameters?: readonly unknown[]): void {
    this.dataSource.logger.logQueryError(error as Error, text, parameters as unknown[], this.runner())
  }

  /** Runs `send` between the events of its statement. */
  async traced(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
    send: () => Promise<QueryResult>,
  ): Promise<QueryResult> {
    this.log(text, parameters, prefix)
    const isHeard = this.#isHeard()
    if (isHeard) await this.broadcast("BeforeQuery", text, parameters)
    const startedAt = Date.now()
    let result: QueryResult
    try {
      result = await send()
    } catch (error) {
      this.logError(error, text, parameters)
      if (isHeard) await this.broadcast("AfterQuery", text, parameters, false, undefined, undefined, error)
      throw error
    }
    const elapsedMs = Date.now() - startedAt
    const { options, logger } = this.dataSource
    const limitMs = options.maxQueryExecutionTime
    if (limitMs && elapsedMs > limitMs) logger.logQuerySlow(elapsedMs, text, parameters as unknown[], this.runner())
    if (isHeard) await this.broadcast("AfterQuery", text, parameters, true, elapsedMs, result.raw)
    return result
  }

  /** What a subscriber sends by the event's manager is part of the step that runs, and does not wait for its end. */
  async broadcast(event: string, ...details: unknown[]): Promise<void> {
    if (!this.#isHeard()) return
    const broadcaster = this.runner().broadcaster as unknown as {
      broadcast(event: string, ...details: unknown[]): Promise<void>
    }
    await this.queue.reenter(() => broadcaster.broadcast(event, ...details))
  }

  /** Whether any subscriber listens to statements or transactions; those that listen to entities only cost nothing here. */
  #isHeard(): boolean {
    const { subscribers } = this.dataSource
    return subscribers.length > 0 && subscribers.some((subscriber) => EVENTS.some((event) => event in subscriber))
  }
}
