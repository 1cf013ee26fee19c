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

  /** Runs a statement; the error of one that fails is for the caller to log. */
  async execute(
    connection: Connection,
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult> {
    this.log(text, parameters, prefix)
    const limitMs = this.dataSource.options.maxQueryExecutionTime
    if (!limitMs) return connection.execute(text, parameters, prefix)
    const startedAt = Date.now()
    const result = await connection.execute(text, parameters, prefix)
    const elapsedMs = Date.now() - startedAt
    if (elapsedMs > limitMs) {
      this.dataSource.logger.logQuerySlow(elapsedMs, text, parameters as unknown[], this.session.runner)
    }
    return result
  }

  /** What a subscriber sends by the event's manager is part of the step that runs, and does not wait for its end. */
  async broadcast(event: string, ...details: unknown[]): Promise<void> {
    if (this.isHeard) await this.session.queue.reenter(() => this.#tell(event, details))
  }

  /** As `broadcast()`, where no step of the transaction runs: what a subscriber sends takes its turn like all else. */
  async broadcastOutside(event: string): Promise<void> {
    if (this.isHeard) await this.#tell(event, [])
  }

  #tell(event: string, details: readonly unknown[]): Promise<void> {
    const broadcaster = this.session.runner.broadcaster as unknown as {
      broadcast(event: string, ...details: unknown[]): Promise<void>
    }
    return broadcaster.broadcast(event, ...details)
  }

  /** Whether any subscriber listens to statements or transactions; those that listen to entities only cost nothing here. */
  get isHeard(): boolean {
    const { subscribers } = this.dataSource
    return subscribers.length > 0 && subscribers.some((subscriber) => EVENTS.some((event) => event in subscriber))
  }
}
