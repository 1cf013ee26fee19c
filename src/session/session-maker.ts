import { inspect } from "node:util"
import { ContainerInstance } from "typedi"
import { DataSource, type DataSourceOptions } from "typeorm"
import { acceptDatabase, type DataSourceOverrides, initialize, toDataSource } from "../engine/data-source"
import { SessionMakerClosedError, SessionOptionsError, SessionStateError } from "../errors"
import { DatabaseSettings } from "../settings/database-settings"
import { parseDatabaseUri } from "../settings/database-uri"
import { redactUri } from "../settings/redact-uri"
import { currentAmbience, inAmbience, keepAttempts, RunAmbience, runInAmbience } from "./ambient"
import { type ConfiguredDataSource, Generation } from "./generation"
import { joinAmbience } from "./join-ambience"
import { runManaged } from "./managed"
import {
  assertSessionDefaults,
  assertSessionOptions,
  type ResolvedSessionOptions,
  resolveSessionOptions,
  type SessionDefaults,
  type SessionOptions,
  splitMakerOptions,
} from "./options"
import type { Session } from "./session"
import type { SessionContext } from "./session-context"
import type { SessionOpener } from "./session-opener"
import type { Tally } from "./tally"

/** A URI, TypeORM's options, or a `DataSource` that was made elsewhere. */
export type Database = string | DataSourceOptions | DataSource

/** Session options as defaults, and TypeORM's `DataSourceOptions` laid over those of the URI. */
export type SessionMakerOptions = SessionDefaults & DataSourceOverrides

/** Options of `maker.run()`. */
export interface RunOptions extends SessionOptions {
  /**
   * Where the calling code already runs in a session of this maker (in a `run()`, or in a request with `ambient: true`):
   * `"new"`, the default, is a session of its own, whose work stays when the other one is rolled back; `"join"` is the other
   * one, which also ends it; `"never"` refuses. Borrowed from Spring's propagation: REQUIRES_NEW, REQUIRED, NEVER.
   */
  readonly propagation?: "new" | "join" | "never"
}

/** What `maker.stats()` gives: numbers of this moment, and counts since the maker was made. */
export interface SessionMakerStats {
  /** sessions that are not closed */
  readonly open: number
  /** of these, those that hold a connection or wait for one */
  readonly active: number
  /** of these, those that have no transaction */
  readonly idle: number
  /** sessions in the queue for a connection */
  readonly waiting: number
  /** transactions committed */
  readonly committed: number
  /** transactions rolled back */
  readonly rolledBack: number
  /** transactions whose commit was refused, or whose connection was lost */
  readonly failed: number
  /** ms since the longest open transaction began; 0 where none is open */
  readonly longestActiveMs: number
  /** connections open now, and at most */
  readonly pool: { readonly size: number; readonly max: number }
}

const DEFAULT_CLOSE_MS = 10_000

/** Makers that a container dropped and nobody waits for. */
const closing = new Set<Promise<void>>()

/** Resolves when every maker that a container dropped has closed. */
export async function makersClosed(): Promise<void> {
  await Promise.all(closing)
}

/**
 * Makes the sessions of one database, and holds its `DataSource`: built at first use, shared from then on.
 * @see SQLAlchemy `sessionmaker` and fastapi-restful `FastAPISessionMaker`; ours also owns what the engine is there.
 * @example
 * const maker = new SessionMaker("postgres://localhost/app", { poolSize: 5 })
 * await maker.run(async (session) => session.save(User, { name: "Ada" }))
 * await maker.close()
 */
export class SessionMaker implements SessionOpener {
  readonly #defaults: SessionDefaults
  readonly #overrides: DataSourceOverrides
  readonly #tally: Tally = { committed: 0, rolledBack: 0, failed: 0, refused: 0 }
  readonly #retired = new Set<Generation>()
  #database: Database | (() => Database | Promise<Database>)
  #generation: Generation | undefined
  #isClosed = false

  /**
   * Connects to nothing yet.
   * @param database a function is called at each first use; default: `DatabaseSettings.load().databaseUri`
   * @throws {SessionOptionsError} for an option that is out of range, or that nobody knows
   */
  constructor(database?: Database | (() => Database | Promise<Database>), options: SessionMakerOptions = {}) {
    // typedi gives every class that it constructs its container as the last argument; this happens after a
    // `Container.reset()` where the maker had been registered with `Container.set(SessionMaker, maker)`.
    const isGiven = database !== undefined && !((database as unknown) instanceof ContainerInstance)
    this.#database = isGiven ? database : fromSettings
    const { defaults, overrides } = splitMakerOptions(options, WHERE)
    // Settings are read at the first use.
    assertSessionDefaults(defaults, isGiven ? this.databaseType : undefined, WHERE)
    this.#defaults = defaults
    if (this.#defaults.retries) keepAttempts()
    this.#overrides = overrides
    if (isGiven) acceptDatabase(database, WHERE)
  }

  /** The URI, where the maker was given one; a new value takes effect after `reset()`. */
  get databaseUri(): string | undefined {
    return typeof this.#database === "string" ? this.#database : undefined
  }

  set databaseUri(uri: string) {
    this.#database = uri
  }

  /** TypeORM's name of the database, as far as the configuration tells at this moment without a function of the application's. */
  get databaseType(): string | undefined {
    try {
      const given = this.#database === fromSettings ? fromSettings() : this.#database
      if (typeof given === "string") return parseDatabaseUri(given).type
      return given instanceof DataSource ? given.options.type : (given as { type?: string }).type
    } catch {
      // Whoever asks for a session will be told what is wrong with it.
      return undefined
    }
  }

  /** The defaults that this maker's sessions start from. */
  get sessionDefaults(): SessionDefaults {
    return this.#defaults
  }

  /**
   * The shared `DataSource`, started now if it was not. Concurrent first calls share one start; a failed one is forgotten.
   * @throws {SessionMakerClosedError} after `close()`
   * @throws {DatabaseUnavailableError} where the database cannot be reached; the next call tries again
   * @throws {DatabaseUriError} {DriverNotInstalledError} {SettingsError} where the configuration is at fault
   */
  async dataSource(): Promise<DataSource> {
    return this.#current().start()
  }

  /** Whether sessions can be opened without waiting. */
  get isPrepared(): boolean {
    return this.#generation?.isPrepared === true
  }

  /**
   * Reads the configuration and builds the entities' metadata, so that sessions can be opened without waiting. Does not
   * connect. @throws {SettingsError} {DatabaseUriError} {DriverNotInstalledError} where the configuration is at fault
   */
  async prepare(): Promise<void> {
    await this.#current().preparing
  }

  /** The present generation, started. For `sandbox()`. */
  async startedGeneration(): Promise<Generation> {
    const generation = this.#current()
    await generation.start()
    return generation
  }

  /** A new `DataSource` that the caller owns and destroys; not the shared one. @throws as `dataSource()` */
  async createDataSource(): Promise<DataSource> {
    const { dataSource } = await this.#configure()
    return dataSource.isInitialized ? dataSource : initialize(dataSource)
  }

  /**
   * Opens a session that the caller ends with `close()` or `await using`; what was not committed by then is rolled back.
   * @throws as `dataSource()`, and {SessionOptionsError}
   */
  async open(options?: SessionOptions): Promise<Session> {
    if (options) assertSessionOptions(options, "maker.open()")
    return this.openWith(resolveSessionOptions(this.#defaults, options), inAmbience(OPENED_BY_HAND))
  }

  /**
   * Gives `fn` a session and ends it: commits when `fn` resolves, rolls back when it rejects, always closes. Inside, it is
   * what `currentSession()` gives.
   * @param options `propagation` says what becomes of a session that the calling code already runs in
   * @returns what `fn` resolves with, once it is committed; with `"join"`, before that
   * @throws what `fn` rejects with; what `commit()` throws; as `open()`
   * @throws {SessionStateError} with `"never"`, where there is a session
   */
  async run<T>(fn: (session: Session) => T | Promise<T>, options: RunOptions = {}): Promise<T> {
    const { propagation = "new", ...own } = options
    assertSessionOptions(own, "maker.run()")
    if (propagation !== "new") {
      const joined = await this.#joined(propagation, own)
      if (joined) return fn(joined)
    }
    const resolved = resolveSessionOptions(this.#defaults, own)
    const context = inAmbience(RUN)
    let ambience: RunAmbience | undefined
    return runManaged(
      () => this.openWith(resolved, context),
      resolved,
      (session) => {
        ambience = new RunAmbience(this, session)
        return runInAmbience(ambience, async () => fn(session))
      },
      () => ambience?.hasCommitted !== true,
    )
  }

  /**
   * Makes code that was written for `dataSource` itself join the session it runs in: `dataSource.manager`, its repositories,
   * `BaseEntity` active records, `dataSource.transaction()`, `query()` and `createQueryBuilder()`. Outside of a session
   * they work as before. Only this object is changed, and its query runners are left alone.
   * @param dataSource the maker's own, or another one with the same entities
   * @returns `dataSource`
   */
  ambient(dataSource: DataSource): DataSource {
    return joinAmbience(this, dataSource)
  }

  /** Opens a session, without a promise where the maker is prepared. For the request's scope. */
  openWith(options: ResolvedSessionOptions, context: SessionContext): Session | Promise<Session> {
    const generation = this.#current()
    if (generation.isPrepared) return generation.open(options, context)
    return generation.preparing.then(() => generation.open(options, context))
  }

  /**
   * Makes the next use build a new `DataSource`. Sessions in flight finish on the old one, then it is destroyed.
   * @returns when the old one is destroyed; so do not await it in a request whose own session is open
   */
  async reset(): Promise<void> {
    const generation = this.#generation
    if (!generation) return
    this.#generation = undefined
    await this.#retire(generation)
  }

  /**
   * Refuses new sessions, waits for the open ones, destroys the `DataSource`. Safe to call again.
   * @param options `timeoutMs`: after it, open sessions are rolled back; default 10 000 ms
   */
  async close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#isClosed = true
    const generations = [...this.#retired, ...(this.#generation ? [this.#generation] : [])]
    this.#generation = undefined
    await Promise.all(generations.map((one) => this.#retire(one, options.timeoutMs ?? DEFAULT_CLOSE_MS)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** For typedi, which calls it and does not wait: see `resetContainer()` in `/testing`. Never throws. */
  destroy(): void {
    const closed = this.close().catch((error: unknown) => reportAsWarning(error))
    closing.add(closed)
    void closed.then(() => closing.delete(closed))
  }

  /** Exact at any time. */
  stats(): SessionMakerStats {
    const generations = [...this.#retired, ...(this.#generation ? [this.#generation] : [])]
    let open = 0
    let active = 0
    let longestActiveMs = 0
    for (const { units } of generations) {
      for (const unit of units.all()) {
        open++
        if (!unit.isActive) continue
        active++
        longestActiveMs = Math.max(longestActiveMs, unit.activeMs)
      }
    }
    const waiting = generations.reduce((sum, one) => sum + one.waiting, 0)
    const pool = this.#generation?.pool ?? { size: 0, max: 0 }
    const { committed, rolledBack, failed } = this.#tally
    return { open, active, idle: open - active, waiting, committed, rolledBack, failed, longestActiveMs, pool }
  }

  [inspect.custom](): string {
    const uri = this.databaseUri
    return `SessionMaker { ${uri === undefined ? "(database not given as a URI)" : redactUri(uri)} }`
  }

  async #joined(propagation: "join" | "never", own: SessionOptions): Promise<Session | undefined> {
    const ambience = currentAmbience()
    if (propagation === "join") return ambience?.sessionOf(this, own)
    if (propagation !== "never") {
      throw new SessionOptionsError('maker.run(): option "propagation" must be one of new, join, never.')
    }
    if (!ambience?.hasSession(this)) return undefined
    throw new SessionStateError(
      'maker.run({ propagation: "never" }) was called where a session is in use: end that one first, or ask for "join" or "new".',
    )
  }

  #current(): Generation {
    if (this.#generation) return this.#generation
    if (this.#isClosed) {
      throw new SessionMakerClosedError(
        "The SessionMaker is closed and opens no more sessions: make a new one, or call reset() instead of close() where it is to go on.",
      )
    }
    const generation: Generation = new Generation(
      () => this.#configure(),
      this.#tally,
      () => this.#abandon(generation),
    )
    this.#generation = generation
    generation.preparing.catch(() => this.#abandon(generation))
    return generation
  }

  /** It could not start: the next use reads the configuration anew. Its sessions, if any, try again by themselves. */
  #abandon(generation: Generation): void {
    if (this.#generation !== generation) return
    this.#generation = undefined
    this.#retire(generation).catch(reportAsWarning)
  }

  /** A `DataSource` that was given belongs to whoever made it; one that a function made for the maker is the maker's. */
  async #configure(): Promise<ConfiguredDataSource> {
    const isMade = typeof this.#database === "function"
    const given = typeof this.#database === "function" ? await this.#database() : this.#database
    const dataSource = toDataSource(given, this.#overrides, this.#defaults.acquireTimeoutMs)
    assertSessionDefaults(this.#defaults, dataSource.options.type, WHERE)
    return { dataSource, isOwned: dataSource !== given || (isMade && !dataSource.isInitialized) }
  }

  async #retire(generation: Generation, timeoutMs?: number): Promise<void> {
    this.#retired.add(generation)
    try {
      await generation.retire(timeoutMs)
    } finally {
      this.#retired.delete(generation)
    }
  }
}

/** Where no application is there to take an error, Node's own channel for them is. */
export function reportAsWarning(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : `non-error thrown: ${String(error)}`)
}

const WHERE = "new SessionMaker()"
const fromSettings = (): string => DatabaseSettings.load().databaseUri

const RUN: SessionContext = { asWriter: true, label: () => "maker.run()", report: reportAsWarning }
const OPENED_BY_HAND: SessionContext = { asWriter: true, label: () => "maker.open()", report: reportAsWarning }
