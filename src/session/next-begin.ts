import type { DataSource } from "typeorm"
import type { AcquireRequest, BeginOptions, ConnectionOwner, IsolationLevel } from "../engine/connection"
import { SessionOptionsError } from "../errors"
import type { ResolvedSessionOptions } from "./options"
import type { SessionContext } from "./session-context"

/** How a session's next transaction begins. */
export class NextBegin {
  readonly #ownIsolation: IsolationLevel | undefined
  /** of the transaction that began last */
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

  /** @throws {SessionOptionsError} where the open transaction, which began last, has another one */
  assertIsolation(isolation: IsolationLevel): void {
    if (isolation !== this.#isolation) throw isolationError(isolation)
  }

  /**
   * @param chosen isolation that a block has chosen; the first thing in a transaction may, after that it is what it is
   * @throws what `variables()` throws
   */
  options(chosen: IsolationLevel | undefined): BeginOptions {
    this.#isolation = chosen ?? this.#ownIsolation
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

export function isolationError(isolation: IsolationLevel): SessionOptionsError {
  return new SessionOptionsError(
    `transaction("${isolation}") cannot change the isolation of the transaction that it is part of: ` +
      `ask for it with @Session({ isolation: "${isolation}" }).`,
  )
}
