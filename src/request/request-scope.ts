import type { ServiceIdentifier } from "typedi"
import { type Attempt, currentAttempt, endedAttemptError } from "../session/ambient"
import { nextTick } from "../session/next-tick"
import type { OpenStreams } from "../session/open-streams"
import {
  type ResolvedSessionOptions,
  resolveSessionOptions,
  type SessionOptions,
  sameOptions,
} from "../session/options"
import { type Session, unitOf } from "../session/session"
import type { SessionContext } from "../session/session-context"
import type { SessionMaker } from "../session/session-maker"
import type { SessionOpener } from "../session/session-opener"
import type { UnitOfWork } from "../session/unit-of-work"
import { decideEnd, decideLate, type Outcome } from "./end"
import { describeMaker, partialCommit } from "./partial-commit"
import { findMaker, type SessionRequest } from "./session-request"

/** The request, as its scope sees it: what its sessions are told, and the defaults of their options. */
export interface RequestHost extends SessionContext {
  readonly defaults: SessionOptions
  /** what its tries are known by */
  readonly request: object
  /** Runs what comes when the body is flushed as a part of the request. */
  runAtEnd(fn: () => Promise<void>): Promise<void>
}

/** One session of the request. */
class Entry {
  /** a promise until it is open */
  session!: Session | Promise<Session>
  /** set once the session is open */
  unit: UnitOfWork | undefined = undefined
  /** set once the action that used it has ended */
  outcome: Outcome | undefined = undefined
  /** what goes on with it after the action; never rejects */
  ending: Promise<void> | undefined = undefined
  /** whether it is about to close, so that it can be given to nobody any more */
  isLeaving = false

  constructor(
    readonly identifier: ServiceIdentifier<SessionMaker> | SessionOpener,
    readonly maker: SessionOpener,
    readonly options: ResolvedSessionOptions,
  ) {}
}

type OpenEntry = Entry & { unit: UnitOfWork }

/**
 * The sessions of one request, from the first that is asked for to the flush of the body. Which of them commits when is
 * decided in `end.ts`; here it is carried out, each step once.
 */
export class RequestScope {
  readonly #entries: Entry[] = []
  /** names of the makers whose work has been committed, in that order */
  #committedMakers: readonly string[] = NONE
  #isAbandoned = false
  #hasFailed = false
  /** of the action that asked for a session first, where tries are kept */
  #attempt: Attempt | undefined
  #isFinished = false
  #attempts = 0
  #asked = 0

  constructor(private readonly host: RequestHost) {}

  /** Whether any open session may have changed something, or work of it is still under way. */
  get hasWritten(): boolean {
    return this.#entries.some(({ unit }) => unit && !unit.isClosed && matters(unit))
  }

  /** Whether the client was gone before it was answered. */
  get isAbandoned(): boolean {
    return this.#isAbandoned
  }

  /** How often the action was run again. */
  get attempts(): number {
    return this.#attempts
  }

  /** Whether any of its sessions asks for the action to be run again. */
  get mayRetry(): boolean {
    return this.#entries.some(({ options }) => options.retries > 0)
  }

  /** How often a session was asked for. */
  get asked(): number {
    return this.#asked
  }

  /**
   * The session for this request: one for each maker and set of options. One that has ended is replaced by a new one. A maker
   * that the container has dropped meanwhile keeps the sessions that it gave this request.
   */
  session(request: SessionRequest): Session | Promise<Session> {
    this.#assertGoesOn()
    this.#asked++
    const { identifier } = request
    if (this.#entries.length === 0) {
      const maker = findMaker(identifier)
      return this.#open(identifier, maker, request.resolve(maker, this.host.defaults))
    }
    const known = this.#entries.find(
      (entry) =>
        entry.identifier === identifier &&
        !this.#hasEnded(entry) &&
        sameOptions(entry.options, request.resolve(entry.maker, this.host.defaults)),
    )
    if (known) return known.session
    const maker = findMaker(identifier)
    const options = request.resolve(maker, this.host.defaults)
    const same = this.#entries.find(
      (entry) => entry.maker === maker && sameOptions(entry.options, options) && !this.#hasEnded(entry),
    )
    return same ? same.session : this.#open(identifier, maker, options)
  }

  /**
   * The session of `maker` for code that runs in the request and names none: the first that is in use, or a new one.
   * @param own where only a session with these options will do
   */
  sessionOf(maker: SessionOpener, own: SessionOptions = {}): Session | Promise<Session> {
    this.#assertGoesOn()
    this.#asked++
    const live = this.#entries.filter((entry) => entry.maker === maker && !this.#hasEnded(entry))
    const isAny = Object.keys(own).length === 0
    const options = resolveSessionOptions(maker.sessionDefaults, this.host.defaults, own)
    const known = isAny ? live[0] : live.find((entry) => sameOptions(entry.options, options))
    return known ? known.session : this.#open(maker, maker, options)
  }

  /** Whether a session of `maker` is in use. */
  hasSession(maker: SessionOpener): boolean {
    return this.#entries.some((entry) => entry.maker === maker && !this.#hasEnded(entry))
  }

  /** Whether `complete()` would have anything to do. */
  get hasUnended(): boolean {
    return this.#next() !== undefined
  }

  /**
   * Ends the sessions of an action that has returned, and at the end of the chain those opened since; what is "before the
   * response" has happened when the promise resolves. They are committed in the order of their first statements. Where the
   * commit of one fails, those after it are rolled back.
   * @returns undefined where there is nothing to wait for
   * @throws what `commit()` throws; every session is then closed
   * @throws {PartialCommitError} instead, where the work of another session was committed before
   */
  complete(outcome: Outcome, isUsedByBody: boolean): Promise<void> | undefined {
    for (let entry = this.#next(); entry; entry = this.#next()) {
      const ending = this.#completeOne(entry, outcome, isUsedByBody)
      if (ending) return ending.then(() => this.complete(outcome, isUsedByBody))
    }
    return undefined
  }

  /**
   * Rolls every session back; also what the failed action did not await. What its code asks for later is refused. Never rejects.
   */
  async fail(): Promise<void> {
    this.#hasFailed = true
    const attempt = this.#currentAttempt()
    if (attempt) attempt.hasEnded = true
    await this.#closeAll()
  }

  /** The client is gone before it was answered: what only read is cancelled in the database, what wrote runs to its end. */
  abandon(): void {
    this.#isAbandoned = true
    if (this.#isWork) return
    for (const { unit } of this.#entries) if (unit) void unit.cancel()
  }

  /** Whether the request wrote or committed: in any of its sessions, or in a `run()` of its action. */
  get #isWork(): boolean {
    return (
      this.#attempt?.hasCommitted === true ||
      this.#entries.some(({ unit }) => unit?.hasEverWritten || unit?.hasCommitted)
    )
  }

  /** @throws {SessionClosedError} in code of an action that has failed, or of an earlier try */
  #assertGoesOn(): void {
    const attempt = this.#currentAttempt()
    if (this.#hasFailed || attempt?.hasEnded) throw endedAttemptError()
    this.#attempt ??= attempt
  }

  /** A worker that requests share runs in the context of the one that started it, whose tries say nothing of the others. */
  #currentAttempt(): Attempt | undefined {
    const attempt = currentAttempt()
    return attempt?.request === this.host.request ? attempt : undefined
  }

  /**
   * The body is flushed, or the connection is gone, and the action has ended: closes what is left. Never rejects.
   * @returns undefined where nothing is left
   */
  finish(): Promise<void> | undefined {
    if (this.#isFinished) return undefined
    this.#isFinished = true
    return this.#entries.every(isOver) ? undefined : this.host.runAtEnd(() => this.#finishOpen())
  }

  async #finishOpen(): Promise<void> {
    let hasFailed = false
    for (const entry of this.#entries.toSorted((one, other) => activeMs(other) - activeMs(one))) {
      const { unit, options, outcome } = entry
      if (!unit) continue
      // Nobody is left to read them, and what waits for their end would wait for ever.
      unit.streams?.destroy()
      await entry.ending
      const isInVain = this.#isAbandoned && !this.#isWork
      const late = isInVain ? "close" : decideLate(outcome ?? "rollback", options.commit)
      if (late === "commit" && !unit.isClosed && !hasFailed) {
        await this.#committed(entry, unit, () => unit.complete()).catch((error: unknown) => {
          hasFailed = true
          this.host.report(error)
        })
      }
      await unit.close()
    }
  }

  /** @returns whether the action may be run again; its sessions are then rolled back and the next ones are new */
  async prepareRetry(): Promise<boolean> {
    const allowed = this.#entries.reduce((most, { options }) => Math.max(most, options.retries), 0)
    const attempt = this.#currentAttempt()
    const hasCommitted = attempt?.hasCommitted || this.#entries.some(({ unit }) => unit?.hasCommitted)
    // Of a try that was not kept it is not known what else it has committed, nor which code goes on belonging to it.
    if (this.#attempts >= allowed || this.#isAbandoned || hasCommitted || !attempt?.isOne) return false
    this.#attempts++
    attempt.hasEnded = true
    this.#attempt = undefined
    await this.#closeAll()
    this.#entries.length = 0
    return true
  }

  #hasEnded({ unit, outcome, isLeaving }: Entry): boolean {
    if (unit === undefined) return outcome !== undefined
    return (unit.isClosed || isLeaving) && !(this.#isAbandoned && !this.#isWork)
  }

  #open(
    identifier: ServiceIdentifier<SessionMaker> | SessionOpener,
    maker: SessionOpener,
    options: ResolvedSessionOptions,
  ): Session | Promise<Session> {
    const opened = maker.openWith(options, this.host)
    const entry = new Entry(identifier, maker, options)
    this.#entries.push(entry)
    if (!(opened instanceof Promise)) {
      this.#opened(entry, opened)
      return opened
    }
    const session = opened.then(
      (started) => {
        this.#opened(entry, started)
        return started
      },
      (error: unknown) => {
        entry.outcome = "rollback"
        throw error
      },
    )
    entry.session = session
    return session
  }

  #opened(entry: Entry, session: Session): void {
    entry.session = session
    entry.unit = unitOf(session)
    // It came too late: the request failed, or its client left, while the DataSource was starting.
    const isInVain = this.#isAbandoned && !this.#isWork
    if (isInVain || this.#isFinished || entry.outcome) void entry.unit.close()
  }

  async #closeAll(): Promise<void> {
    await Promise.all(
      this.#entries.map((entry) => {
        entry.outcome = "rollback"
        return entry.unit?.close()
      }),
    )
  }

  #completeOne(entry: OpenEntry, outcome: Outcome, isUsedByBody: boolean): Promise<void> | undefined {
    const { unit, options } = entry
    entry.outcome = outcome
    if (unit.isClosed) return outcome === "commit" ? this.#commitOrFail(entry, unit, isUsedByBody) : undefined
    const { streams } = unit
    const hasOpenStream = Boolean(streams?.count)
    const end = decideEnd(outcome, { commit: options.commit, matters: matters(unit), hasOpenStream, isUsedByBody })
    if (end === "close") return unit.close()
    if (end === "commit") return this.#commitOrFail(entry, unit, isUsedByBody)
    if (end === "commit in background") this.#goOn(entry, this.#commit(entry, unit, isUsedByBody))
    else if (streams && hasOpenStream) this.#goOn(entry, this.#completeAfterStreams(unit, streams, options))
    return undefined
  }

  #goOn(entry: Entry, ending: Promise<void>): void {
    entry.ending = ending.catch((error: unknown) => this.host.report(error))
  }

  async #commitOrFail(entry: Entry, unit: UnitOfWork, isUsedByBody: boolean): Promise<void> {
    try {
      await this.#committed(entry, unit, () => this.#commit(entry, unit, isUsedByBody))
    } catch (error) {
      await this.#closeAll()
      throw error
    }
  }

  /** Keeps account of what was committed, for the error where the commit of another session then fails. */
  async #committed(entry: Entry, unit: UnitOfWork, commit: () => Promise<void>): Promise<void> {
    const isWork = matters(unit)
    try {
      await commit()
    } catch (error) {
      const before = this.#committedMakers
      throw before.length > 0 ? partialCommit(before, describeMaker(entry.identifier, entry.maker), error) : error
    }
    if (isWork) this.#committedMakers = [...this.#committedMakers, describeMaker(entry.identifier, entry.maker)]
  }

  /** Of the sessions that are to be ended, the one that was used first. */
  #next(): OpenEntry | undefined {
    if (this.#entries.length === 1) return isUnended(this.#entries[0]) ? this.#entries[0] : undefined
    const open = this.#entries.filter(isUnended)
    if (open.length < 2) return open[0]
    return open.reduce((first, entry) => (activeMs(entry) > activeMs(first) ? entry : first))
  }

  /** A body that is a stream can go on reading through the session until it is flushed. */
  async #commit(entry: Entry, unit: UnitOfWork, isUsedByBody: boolean): Promise<void> {
    // A `save()` that was not awaited sends its first statement some promises later than the action returns.
    await nextTick()
    // Where it was closed from outside over work that is now lost, this says so.
    if (unit.isClosed) return unit.isUndone ? unit.complete() : undefined
    if (!isUsedByBody && unit.tryComplete()) return
    if (isUsedByBody) return unit.commitIssued()
    entry.isLeaving = true
    await unit.complete()
  }

  async #completeAfterStreams(
    unit: UnitOfWork,
    streams: OpenStreams,
    { commit }: ResolvedSessionOptions,
  ): Promise<void> {
    await streams.whenEnded()
    if (unit.isClosed || commit === "after-response") return
    if (commit === "manual" || (this.#isAbandoned && !this.#isWork)) await unit.close()
    else await unit.complete()
  }
}

const NONE: readonly string[] = []

function isUnended(entry: Entry | undefined): entry is OpenEntry {
  return entry?.unit !== undefined && !entry.outcome
}

/** Ends it where nothing is left of it to be ended but the tick that it waits for. */
function isOver({ unit, ending, outcome, options }: Entry): boolean {
  if (unit === undefined || unit.isClosed) return true
  return outcome === "commit" && options.commit !== "manual" && ending !== undefined && unit.tryComplete()
}

function matters(unit: UnitOfWork): boolean {
  return unit.hasWritten || !unit.isQuiet
}

/** ms since the first statement of the open transaction */
function activeMs({ unit }: Entry): number {
  return unit?.activeMs ?? 0
}
