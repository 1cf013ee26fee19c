import type { DataSource } from "typeorm"
import type { AcquireRequest, BeginOptions, ConnectionOwner, IsolationLevel } from "../engine/connection"
import { SessionOptionsError } from "../errors"
import type { ResolvedSessionOptions } from "./options"
import type { SessionContext } from "./session-context"

/** How a session's next transaction begins. */
export class NextBegin {
  readonly #ownIsolation: IsolationLevel | undefined
  #isolation: IsolationLevel | undefined

  constructor(
    dataSource: DataSource,
    private readonly session: ResolvedSessionOptions,
    private readonly context: SessionContext,
  ) {
    this.#ownIsolation = session.isolation ?? (dataSource.options as { isolationLevel?: IsolationLevel }).isolationLevel
    this.#isolation = this.#ownIsolation
  }

  /** @returns undefined where that is the server's to say */
  get isSerializable(): boolean | undefined {
    return this.#isolation && this.#isolation === "SERIALIZABLE"
  }

  /**
   * The first thing in a session may still choose its isolation; after that it is what it is.
   * @throws {SessionOptionsError} where a transaction with another one is open
   */
  chooseIsolation(isolation: IsolationLevel, isActive: boolean): void {
    if (isolation === this.#isolation) return
    if (isActive) {
      throw new SessionOptionsError(
        `transaction("${isolation}") cannot change the isolation of the transaction that it is part of: ` +
          `ask for it with @Session({ isolation: "${isolation}" }).`,
      )
    }
    this.#isolation = isolation
  }

  /** A choice is for one transaction. */
  forgetChoice(): void {
    this.#isolation = this.#ownIsolation
  }

  /** @throws what `variables()` throws */
  options(): BeginOptions {
    const { readOnly, timeoutMs, resolveCommits } = this.session
    const variables = this.context.variables?.()
    const asWriter = this.#asWriter
    // To a session that will write, its begin costs no round trip with the first statement, and one more with a later one.
    const deferBegin = this.session.deferBegin && !asWriter
    return { isolation: this.#isolation, readOnly, timeoutMs, asWriter, variables, deferBegin, resolveCommits }
  }

  request(owner: ConnectionOwner): AcquireRequest {
    const { acquireTimeoutMs, answerTimeoutMs, timeoutMs, readOnly } = this.session
    return {
      owner,
      timeoutMs: acquireTimeoutMs,
      answerTimeoutMs,
      statementTimeoutMs: timeoutMs,
      onReplica: readOnly,
      asWriter: this.#asWriter,
      wait: undefined,
    }
  }

  get #asWriter(): boolean {
    return this.context.asWriter && !this.session.readOnly
  }
}
