import type { DataSource, QueryResult, QueryRunner } from "typeorm"
import type { IsolationLevel } from "./connection"

/**
 * The one place that extends a TypeORM class. Read for it: typeorm 1.1.1 `query-runner/BaseQueryRunner.js`,
 * `driver/postgres/PostgresQueryRunner.js`, `driver/sqlite-abstract/AbstractSqliteQueryRunner.js`,
 * `driver/mysql/MysqlQueryRunner.js`. `spec/engine/session-runner.spec.ts` fails when what is relied on changes:
 * everything a runner sends goes through its own `query()`, and persistence asks `isTransactionActive` before it begins.
 */

/** The session behind a runner. Each call may begin the transaction, and waits for the calls before it. */
export interface RunnerHost {
  /** @param isStructured whether the whole `QueryResult` is wanted, and not the driver's rows */
  query(text: string, parameters: readonly unknown[] | undefined, isStructured: boolean): Promise<unknown>
  stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream>
  /** the driver's client of the open transaction */
  client(): Promise<unknown>
  startTransaction(isolation: IsolationLevel | undefined): Promise<void>
  commitTransaction(): Promise<void>
  rollbackTransaction(): Promise<void>
}

/** What TypeORM's runners assume of themselves and the `QueryRunner` interface marks read-only. */
interface RunnerInternals {
  isTransactionActive: boolean
}

type RunnerConstructor = new (driver: unknown, mode: "master" | "slave") => QueryRunner & RunnerInternals
type SessionRunnerConstructor = new (dataSource: DataSource, host: RunnerHost, mode: "master" | "slave") => QueryRunner

const classes = new WeakMap<object, SessionRunnerConstructor>()

/** A query runner for `host`, of the class that TypeORM itself uses for this `DataSource`. Takes no connection. */
export function createSessionRunner(dataSource: DataSource, host: RunnerHost, onReplica: boolean): QueryRunner {
  let SessionRunner = classes.get(dataSource)
  if (SessionRunner === undefined) {
    const base = dataSource.driver.createQueryRunner("master").constructor
    SessionRunner = classes.get(base) ?? sessionRunner(base as RunnerConstructor)
    classes.set(base, SessionRunner)
    classes.set(dataSource, SessionRunner)
  }
  return new SessionRunner(dataSource, host, onReplica ? "slave" : "master")
}

function sessionRunner(base: RunnerConstructor): SessionRunnerConstructor {
  return class SessionQueryRunner extends base {
    readonly #host: RunnerHost

    constructor(dataSource: DataSource, host: RunnerHost, mode: "master" | "slave") {
      super(dataSource.driver, mode)
      this.#host = host
      // The session begins by itself: whatever asks first (`save()`, query builders) is to join and not to begin.
      this.isTransactionActive = true
    }

    override connect(): Promise<unknown> {
      return this.#host.client()
    }

    override query(text: string, parameters?: unknown[], useStructuredResult = false): Promise<QueryResult> {
      return this.#host.query(text, parameters, useStructuredResult) as Promise<QueryResult>
    }

    override async stream(
      text: string,
      parameters?: unknown[],
      onEnd?: (...args: unknown[]) => void,
      onError?: (...args: unknown[]) => void,
    ): Promise<never> {
      const stream = await this.#host.stream(text, parameters)
      if (onEnd) stream.on("end", onEnd)
      if (onError) stream.on("error", onError)
      return stream as never
    }

    override startTransaction(isolation?: IsolationLevel): Promise<void> {
      return this.#host.startTransaction(isolation)
    }

    override commitTransaction(): Promise<void> {
      return this.#host.commitTransaction()
    }

    override rollbackTransaction(): Promise<void> {
      return this.#host.rollbackTransaction()
    }

    /** The connection is the session's to give back; TypeORM and others may call this on a runner they were lent. */
    override async release(): Promise<void> {}

    override async [Symbol.asyncDispose](): Promise<void> {}
  }
}
