import type { Readable } from "node:stream"
import { type QueryResult, TypeORMError } from "typeorm"
import { AcquireTimeoutError, DatabaseUnavailableError, SessionError } from "../errors"
import type { AcquireRequest, CommitAnswer, Connection, Outcome, TransactionStatus } from "./connection"
import { type Due, unwatch, watch } from "./deadlines"
import { codeOf, failureKind } from "./failure-kind"
import type { Slots } from "./slots"
import { isPlainSelect } from "./statement"

export interface PoolAccess<Raw, Pooled extends PooledConnection> {
  /** asks the driver's pool; cannot be called off */
  open(): Promise<Raw>
  /** whether `open()` has a connection at hand, so that nobody need watch how long it takes */
  hasIdle(): boolean
  wrap(raw: Raw): Pooled
  /** gives back unused what came too late */
  discard(raw: Raw): void
  /** where the database is, without secrets */
  describe(): string
}

/** Past this, a statement is sent only after the begin was answered: what stands between may have forgotten the connection. */
const LONG_IDLE_MS = 5_000
/** A connection that was dead before something was sent on it says so in about one round trip. */
const AT_ONCE_MS = 50
/** A server that is alive answers a begin in this time. */
const LEAST_DOUBT_MS = 500
/** How much longer than the database the client waits for a statement. */
const GRACE_MS = 1_000

type Limit = "answer" | "prefix" | "statement"

interface Lease {
  readonly request: AcquireRequest
  readonly slots: PoolSlots
  /** whether it had been idle in the pool, and not been opened for this request */
  readonly wasIdle: boolean
}

/**
 * A connection of a driver's pool: what is known of it, and the place that it takes in front of the pool. Here, and nowhere else,
 * is decided whether it goes back: `#isClean`, from what the server said.
 */
export abstract class PooledConnection implements Connection, Due {
  previous: this | undefined = undefined
  following: this | undefined = undefined
  dueAt = 0
  hasBegun = false
  isDoubtful = false
  isPrefixDone = true
  /** which transaction it is, where that was asked for */
  identity: string | undefined
  abstract readonly client: unknown
  abstract readonly isSettled: boolean
  abstract readonly status: TransactionStatus
  protected endSeen: Outcome | undefined
  /** ms on the clock of `performance.now()`; 0 where nobody saw it being opened, which was then before */
  openedAt = 0
  #isAlive = true
  #lease: Lease | undefined
  #heardAt = performance.now()
  #cancelling: Promise<void> | undefined
  #wasCancelled = false
  /** of what was sent last */
  #sentAt = 0
  #sentOnlyPrefix = false
  #sentPrefixFirst = false
  #wasDead = false
  #isDeadAtOnce = false
  #isRefused = false
  #waiting:
    | {
        readonly what: string
        readonly limit: Limit
        readonly limitMs: number | undefined
        readonly fail: (error: Error) => void
      }
    | undefined
  #isWatched = false

  get isAlive(): boolean {
    return this.#isAlive
  }

  get mayResend(): boolean {
    // Nothing has gone out.
    if (this.#wasDead) return true
    if (this.#isAlive || !this.#lease?.wasIdle || this.hasBegun || this.#wasCancelled) return false
    return this.#sentOnlyPrefix || this.#isRefused || this.#isDeadAtOnce
  }

  lend(request: AcquireRequest, slots: PoolSlots, wasIdle: boolean): this {
    this.#lease = { request, slots, wasIdle }
    this.hasBegun = false
    this.endSeen = undefined
    this.identity = undefined
    this.isDoubtful = wasIdle && performance.now() - this.#heardAt > LONG_IDLE_MS
    return this
  }

  takeEnd(): Outcome | undefined {
    const end = this.endSeen
    this.endSeen = undefined
    return end
  }

  cancel(): Promise<void> {
    return this.stop(true)
  }

  /** @param mustStop whether the statement is waited for; else one that could not be asked to stop may as well go on to its end */
  protected async stop(mustStop: boolean): Promise<void> {
    this.#wasCancelled = true
    this.#cancelling ??= this.requestCancel()
      .catch((error: unknown) => {
        if (!mustStop && error instanceof CancelNotSentError) return
        // Whether it still arrives is not known, nor whether the statement ever ends.
        this.end(new DatabaseUnavailableError("The running statement could not be cancelled.", { cause: error }))
      })
      .finally(() => {
        this.#cancelling = undefined
      })
    await this.#cancelling
  }

  /** Resolves when no cancel is under way: what is sent before might be hit by it. */
  protected get cancelling(): Promise<void> | undefined {
    return this.#cancelling
  }

  end(reason: Error): void {
    this.#isAlive = false
    this.destroy()
    this.#waiting?.fail(reason)
  }

  release(): void {
    const lease = this.#lease
    if (lease === undefined) return
    this.#lease = undefined
    if (this.#cancelling && this.#isAlive) void this.#cancelling.then(() => this.#return(lease))
    else this.#return(lease)
  }

  #return({ request, slots }: Lease): void {
    this.#wasCancelled = false
    const isClean = this.#isClean
    if (isClean) this.#heardAt = performance.now()
    if (isClean && this.canPassOn(slots) && slots.handOver(request.owner, this)) return
    this.giveBack(!isClean)
    if (!isClean) this.destroy()
    slots.release(request.owner)
  }

  get #isClean(): boolean {
    return this.#isAlive && this.isSettled && this.status === "none"
  }

  /** What the driver, or the server, says of the connection's end. */
  protected lost(): void {
    if (!this.#isAlive) return
    this.#isAlive = false
    this.#isDeadAtOnce = performance.now() - this.#sentAt <= AT_ONCE_MS
  }

  /**
   * The server refused to go on before it answered anything. Where a begin is in front, nothing behind it has run; a statement
   * without one, a read whose begin is put off, may have been under way, unless the end was noticed at once.
   */
  protected refused(): void {
    this.lost()
    this.#isRefused = !this.hasBegun && this.#sentPrefixFirst
  }

  /**
   * Sends, and waits for the answer.
   * @param limit "answer" for what the session itself sends, "statement" for what the application sends, "prefix" for the one in
   *   front of the other: `goOn()` says when the first is answered
   * @param send is given what takes the answer
   * @throws the error that `send` answers with; {DatabaseUnavailableError} past the limit: the connection is then ended
   */
  protected ask<T>(
    what: string,
    limit: Limit,
    send: (done: (error: Error | null | undefined, result: T) => void) => void,
  ): Promise<T> {
    this.#sentAt = performance.now()
    this.#wasDead = !this.#isAlive
    this.#sentOnlyPrefix = limit === "answer"
    this.#sentPrefixFirst = limit !== "statement"
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        if (this.#waiting?.fail !== fail) return
        this.#answered()
        reject(error)
      }
      let hasFailed = false
      this.#expect(what, limit, fail)
      send((error, result) => {
        // After an error that the driver found by itself the server's answer comes, too.
        if (hasFailed || this.#waiting?.fail !== fail) return
        if (error) hasFailed = true
        if (!error) {
          this.#answered()
          resolve(result)
          return
        }
        const settling = this.settle(error)
        if (settling === undefined) fail(error)
        else {
          // The error came before the rest of the answer, which is then due.
          this.#expect(what, "answer", fail)
          void settling.then(() => fail(error))
        }
      })
    })
  }

  /** The begin is answered, and the statement behind it runs: from now on its own limit counts. */
  protected goOn(what: string): void {
    const fail = this.#waiting?.fail
    if (fail) this.#expect(what, "statement", fail)
  }

  #expect(what: string, limit: Limit, fail: (error: Error) => void): void {
    const limitMs = this.#limitMs(limit)
    this.#waiting = { what, limit, limitMs, fail }
    this.#unwatch()
    if (limitMs === undefined) return
    this.#isWatched = true
    watch(this, limitMs)
  }

  #limitMs(limit: Limit): number | undefined {
    const request = this.#lease?.request
    if (request === undefined) return undefined
    const { answerTimeoutMs, statementTimeoutMs, timeoutMs } = request
    if (limit === "statement") return statementTimeoutMs && statementTimeoutMs + GRACE_MS
    // There must be time left for another connection.
    if (this.isDoubtful && !this.hasBegun) {
      return Math.min(answerTimeoutMs, timeoutMs, Math.max(LEAST_DOUBT_MS, timeoutMs / 2))
    }
    return answerTimeoutMs
  }

  /**
   * Bounds what a result stream waits for: each batch of rows by the limit of a statement, its early end by that of an answer. A
   * reader that takes its time has all of it. Read for this: Node 20 `Readable` (`_read`, `push`, `_destroy` of one object may be
   * its own), pg-query-stream 4.17, mysql2 3.24 `lib/commands/query.js` (`stream`).
   */
  protected limitStream(stream: Readable): void {
    const { _read: read, push, _destroy: destroy } = stream
    const fail = (error: Error) => {
      this.#answered()
      stream.destroy(error)
    }
    const isAwaited = () => this.#waiting?.fail === fail
    stream._read = (size) => {
      if (!isAwaited()) this.#expect("a result stream", "statement", fail)
      read.call(stream, size)
    }
    stream.push = (row: unknown, encoding?: BufferEncoding) => {
      if (isAwaited()) this.#answered()
      return push.call(stream, row, encoding)
    }
    stream._destroy = (error, callback) => {
      let isOver = false
      const over = (failure?: Error | null) => {
        if (isOver) return
        isOver = true
        if (this.#waiting?.fail === over) this.#answered()
        callback(failure ?? error)
      }
      // The driver waits for an answer of the server, which a dead connection does not give.
      if (!this.#isAlive) return over()
      this.#expect("the end of a result stream", "answer", over)
      destroy.call(stream, error, over)
    }
  }

  #answered(): void {
    this.#waiting = undefined
    this.#unwatch()
  }

  #unwatch(): void {
    if (!this.#isWatched) return
    this.#isWatched = false
    unwatch(this)
  }

  overdue(): void {
    this.#isWatched = false
    const { what = "a statement", limitMs = 0 } = this.#waiting ?? {}
    this.stopStatement()
    this.end(
      new DatabaseUnavailableError(
        `The database did not answer ${what} within ${limitMs} ms, and the connection was ended. Check the network and the ` +
          "server's load, or raise answerTimeoutMs or timeoutMs.",
      ),
    )
  }

  /**
   * For a connection that is about to be ended: a statement may go on where only the way back is cut. Nobody is lent the connection
   * any more, so that nobody waits for this. A COMMIT that hangs is left alone: stopping its wait for a standby would store it.
   */
  protected stopStatement(): void {
    if (this.#isAlive && this.#waiting?.limit === "statement") this.requestCancel().catch(() => undefined)
  }

  /** Sees to what is left of a failed call. @returns what to wait for before the error is handed on */
  protected abstract settle(error: Error): Promise<void> | undefined

  /** Asks the server, on a way of its own, to stop what runs on this connection. @throws where that is not possible */
  protected abstract requestCancel(): Promise<void>

  /** Whether it need not go back to the driver's pool, which may have rules for it, or others that wait. */
  protected abstract canPassOn(slots: PoolSlots): boolean

  /** To the driver's pool; with `isBroken`, for the pool to forget it. */
  protected abstract giveBack(isBroken: boolean): void

  /** Cuts the socket. */
  protected abstract destroy(): void

  abstract execute(
    text: string,
    parameters: readonly unknown[] | undefined,
    prefix: readonly string[],
  ): Promise<QueryResult>
  abstract control(statements: readonly string[]): Promise<void>
  looksLikeRead(text: string): boolean {
    return isPlainSelect(text)
  }

  abstract mayCommit(text: string): boolean
  abstract askStatus(): Promise<void>
  abstract isPlainRead(text: string, parameters: readonly unknown[] | undefined): boolean
  abstract commit(): Promise<CommitAnswer>
  abstract rollback(): Promise<void>
  abstract stream(text: string, parameters: readonly unknown[] | undefined): Promise<NodeJS.ReadableStream>
}

/** Thrown where it is sure that nothing was stopped, nor will be. */
export class CancelNotSentError extends TypeORMError {}

export type PoolSlots = Slots<PooledConnection>

/** Worded as pg words the loss of a connection, so that it is taken for one. */
export function lostBeforeCommit(): Error {
  return new Error("Connection terminated before COMMIT was sent: the transaction is rolled back")
}

/**
 * Takes a slot and then a connection of the driver's pool, both within one deadline.
 * The driver's pool cannot be told to forget a caller, so one that was given up on is handed back when it comes; its slot is
 * held until then, which keeps the numbers true.
 */
export async function acquireFromPool<Raw, Pooled extends PooledConnection>(
  request: AcquireRequest,
  slots: PoolSlots,
  access: PoolAccess<Raw, Pooled>,
): Promise<Pooled> {
  for (;;) {
    const connection = await lendOne(request, slots, access)
    if (connection.status !== "open" && connection.status !== "failed") return connection
    connection.end(new TypeORMError("Code outside of sessions left a transaction open on a connection of the pool."))
    connection.release()
  }
}

async function lendOne<Raw, Pooled extends PooledConnection>(
  request: AcquireRequest,
  slots: PoolSlots,
  access: PoolAccess<Raw, Pooled>,
): Promise<Pooled> {
  const { owner } = request
  const startedAt = performance.now()
  let remainingMs = request.timeoutMs
  if (!slots.tryAcquire(owner)) {
    const handedOver = await slots.acquire(request)
    // The slots of one pool hold its connections only.
    if (handedOver) return handedOver.lend(request, slots, true) as Pooled
    remainingMs = Math.max(1, remainingMs - (performance.now() - startedAt))
  }
  try {
    const raw = access.hasIdle() ? await access.open() : await openInTime(remainingMs, request, access, slots)
    const connection = access.wrap(raw)
    return connection.lend(request, slots, connection.openedAt < startedAt)
  } catch (error) {
    if (error instanceof GivenUp) throw error.reason
    slots.release(owner)
    throw connectFailure(access.describe(), error)
  }
}

async function openInTime<Raw>(
  timeoutMs: number,
  request: AcquireRequest,
  access: PoolAccess<Raw, PooledConnection>,
  slots: PoolSlots,
): Promise<Raw> {
  const opening = access.open()
  try {
    return await withDeadline(opening, timeoutMs, request, access)
  } catch (error) {
    if (error instanceof GivenUp) {
      const done = () => slots.release(request.owner)
      opening.then((raw) => access.discard(raw)).then(done, done)
    }
    throw error
  }
}

class GivenUp {
  constructor(readonly reason: Error) {}
}

function withDeadline<Raw>(
  opening: Promise<Raw>,
  timeoutMs: number,
  request: AcquireRequest,
  access: PoolAccess<Raw, PooledConnection>,
): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      clearTimeout(timer)
      request.wait = undefined
    }
    const giveUp = (reason: Error) => {
      settle()
      reject(new GivenUp(reason))
    }
    const timer = setTimeout(() => {
      giveUp(
        new AcquireTimeoutError(
          `${request.owner.describe()} got no connection to ${access.describe()} within ${request.timeoutMs} ms: ` +
            "the database did not answer, or code outside of sessions holds the pool. " +
            "Check that the database is up and reachable, or raise acquireTimeoutMs.",
        ),
      )
    }, timeoutMs)
    request.wait = { cancel: giveUp }
    opening.then(
      (raw) => {
        settle()
        resolve(raw)
      },
      (error: unknown) => {
        settle()
        reject(error)
      },
    )
  })
}

/**
 * The error for a connect that failed: whatever a driver, or Node, throws there names hosts and paths, and is no error of the
 * application. Mistakes of the program, such as a `TypeError`, stay as they are.
 * @param target where the database is, without secrets
 */
export function connectFailure(target: string, error: unknown): unknown {
  if (failureKind(error) === "unavailable") return unavailable(target, error)
  if (error instanceof SessionError || error instanceof TypeORMError) return error
  const isMistake = error instanceof TypeError || error instanceof ReferenceError || error instanceof SyntaxError
  return isMistake && codeOf(error) === undefined ? error : unavailable(target, error)
}

/** @param target where the database is, without secrets */
export function unavailable(target: string, cause: unknown): DatabaseUnavailableError {
  const code = codeOf(cause)
  const detail =
    REMEDIES[code ?? ""] ?? REMEDIES[code?.slice(0, 2) ?? ""] ?? "Check that it is up and accepts connections."
  return new DatabaseUnavailableError(`No connection to ${target}${code ? ` (${code})` : ""}. ${detail}`, { cause })
}

const REMEDIES: Readonly<Record<string, string>> = {
  ECONNREFUSED: "Nothing listens there: start the database, or correct host and port in the database URI.",
  ENOTFOUND: "The host name is unknown: correct it in the database URI.",
  EAI_AGAIN: "The host name could not be looked up: check the name and the network.",
  ETIMEDOUT: "The host did not answer: check host, port and firewall.",
  "28": "The server refused user or password: correct them in the database URI.",
  ER_ACCESS_DENIED_ERROR: "The server refused user or password: correct them in the database URI.",
  "3D000": "That database does not exist: create it, or correct its name in the database URI.",
  ER_BAD_DB_ERROR: "That database does not exist: create it, or correct its name in the database URI.",
  "53300": "The server has no connection left: lower poolSize, or raise the server's limit.",
  ER_CON_COUNT_ERROR: "The server has no connection left: lower poolSize, or raise the server's limit.",
  "57P03": "The server is starting up or shutting down: try again.",
  EEXIST: "The file cannot be opened: check that its folder exists and is writable.",
  ENOTDIR: "The file cannot be opened: check that its folder exists and is writable.",
  EACCES: "The file cannot be opened: check that its folder exists and is writable.",
  SQLITE_CANTOPEN: "The file cannot be opened: check that its folder exists and is writable.",
}
