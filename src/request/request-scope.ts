import type { ResolvedSessionOptions, SessionOptions } from "../session/options"
import { type Session, unitOf } from "../session/session"
import type { SessionMaker } from "../session/session-maker"
import type { SessionContext, UnitOfWork } from "../session/unit-of-work"
import { decideEnd, decideLate, type Outcome } from "./end"
import { findMaker, type SessionRequest } from "./session-request"

/** The request, as its scope sees it. */
export interface RequestHost {
  /** SQLite: whether its sessions begin as writers */
  readonly asWriter: boolean
  /** method and route */
  readonly label: () => string
  /** takes errors that can reach the client no more */
  readonly report: (error: unknown) => void
  readonly reportLate: (error: unknown) => void
  readonly variables?: Readonly<Record<string, string>> | undefined
  /** ms after which a transaction that is still open is reported once */
  readonly warnAfterMs: number
}

interface Entry {
  readonly maker: SessionMaker
  readonly options: ResolvedSessionOptions
  readonly session: Session | Promise<Session>
  /** set once the session is open */
  unit: UnitOfWork | undefined
  /** set once the action that used it has ended */
  outcome: Outcome | undefined
}

/**
 * The sessions of one request, from the first that is asked for to the flush of the body. Which of them commits when is
 * decided in `end.ts`; here it is carried out, each step once.
 */
export class RequestScope {
  readonly #context: SessionContext
  readonly #entries: Entry[] = []
  #isAbandoned = false
  #isFinished = false
  #attempts = 0

  constructor(
    host: RequestHost,
    readonly defaults: SessionOptions,
  ) {
    this.#context = host
  }

  /** Whether any session may have changed something. */
  get hasWritten(): boolean {
    return this.#entries.some(({ unit }) => unit?.hasWritten)
  }

  /** The session for this request: one for each maker and set of options. A session that has ended is replaced by a new one. */
  session(request: SessionRequest): Session | Promise<Session> {
    const maker = findMaker(request.identifier)
    const options = request.resolve(maker, this.defaults)
    for (const entry of this.#entries) {
      const { unit, outcome } = entry
      const hasEnded = unit ? unit.isClosed && !this.#isAbandoned : outcome !== undefined
      if (entry.maker === maker && entry.options === options && !hasEnded) return entry.session
    }
    return this.#open(maker, options)
  }

  /**
   * Ends the sessions of an action that has returned, and at the end of the chain those opened since; what is "before the response" has happened when the promise resolves.
   * Where the commit of one fails, those after it are rolled back.
   * @throws what `commit()` throws; every session is then closed
   */
  async complete(outcome: Outcome, isUsedByBody: boolean): Promise<void> {
    for (const entry of this.#entries) {
      const { unit, options } = entry
      if (!unit || entry.outcome) continue
      entry.outcome = outcome
      if (unit.isClosed) continue
      const end = decideEnd(outcome, {
        commit: options.commit,
        matters: unit.hasWritten || !unit.isQuiet,
        hasOpenStream: unit.streams.count > 0,
        isUsedByBody,
      })
      if (end === "close") await unit.close()
      else if (end === "commit in background") this.#commit(unit, isUsedByBody).catch(this.#context.report)
      else if (end === "commit") await this.#commitOrFail(unit, isUsedByBody)
      else if (unit.streams.count > 0) this.#completeAfterStreams(unit, options)
    }
  }

  /** Rolls every session back; also what the failed action did not await. Never rejects. */
  async fail(): Promise<void> {
    await this.#closeAll()
  }

  /** The client is gone before it was answered: what only read is cancelled in the database, what wrote runs to its end. */
  abandon(): void {
    this.#isAbandoned = true
    for (const { unit } of this.#entries) if (unit && !unit.hasWritten) void unit.cancel()
  }

  /** The body is flushed, or the connection is gone, and the action has ended: closes what is left. Never rejects. */
  async finish(): Promise<void> {
    if (this.#isFinished) return
    this.#isFinished = true
    for (const { unit, options, outcome } of this.#entries) {
      if (!unit) continue
      const late = this.#isAbandoned ? "close" : decideLate(outcome ?? "rollback", options.commit)
      if (late === "commit" && !unit.isClosed) await unit.complete().catch(this.#context.report)
      await unit.close()
    }
  }

  /** @returns whether the action may be run again; its sessions are then rolled back and the next ones are new */
  async prepareRetry(): Promise<boolean> {
    const allowed = this.#entries.reduce((most, { options }) => Math.max(most, options.retries), 0)
    const hasCommitted = this.#entries.some(({ unit }) => unit?.hasCommitted)
    if (this.#attempts >= allowed || this.#isAbandoned || hasCommitted) return false
    this.#attempts++
    await this.#closeAll()
    this.#entries.length = 0
    return true
  }

  #open(maker: SessionMaker, options: ResolvedSessionOptions): Session | Promise<Session> {
    const opened = maker.openWith(options, this.#context)
    if (!(opened instanceof Promise)) {
      const unit = unitOf(opened)
      this.#entries.push({ maker, options, session: opened, unit, outcome: undefined })
      if (this.#isAbandoned || this.#isFinished) void unit.close()
      return opened
    }
    const session = opened.then(
      (started) => {
        entry.unit = unitOf(started)
        // It came too late: the request failed, or its client left, while the DataSource was starting.
        if (this.#isAbandoned || this.#isFinished || entry.outcome) void entry.unit.close()
        return started
      },
      (error: unknown) => {
        entry.outcome = "rollback"
        throw error
      },
    )
    const entry: Entry = { maker, options, session, unit: undefined, outcome: undefined }
    this.#entries.push(entry)
    return session
  }

  async #closeAll(): Promise<void> {
    await Promise.all(
      this.#entries.map((entry) => {
        entry.outcome = "rollback"
        return entry.unit?.close()
      }),
    )
  }

  async #commitOrFail(unit: UnitOfWork, isUsedByBody: boolean): Promise<void> {
    try {
      await this.#commit(unit, isUsedByBody)
    } catch (error) {
      await this.fail()
      throw error
    }
  }

  /** A body that is a stream can go on reading through the session until it is flushed. */
  #commit(unit: UnitOfWork, isUsedByBody: boolean): Promise<void> {
    return isUsedByBody ? unit.commitIssued() : unit.complete()
  }

  #completeAfterStreams(unit: UnitOfWork, { commit }: ResolvedSessionOptions): void {
    const end = async () => {
      await unit.streams.whenEnded()
      if (unit.isClosed) return
      if (this.#isAbandoned || commit === "manual") await unit.close()
      else if (commit !== "after-response") await unit.complete()
    }
    end().catch(this.#context.report)
  }
}
