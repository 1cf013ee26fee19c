import { setTimeout as sleep } from "node:timers/promises"
import type { DataSource } from "typeorm"
import type { Engine, PoolStats } from "../engine/connection"
import { buildMetadata, initialize } from "../engine/data-source"
import { closeEngine, engineOf } from "../engine/engine"
import { LinkedList } from "../engine/linked-list"
import type { EngineSource } from "./engine-source"
import { watchGroup } from "./held-too-long"
import type { ResolvedSessionOptions } from "./options"
import { Session } from "./session"
import type { SessionContext } from "./session-context"
import type { Tally } from "./tally"
import { type UnitKeeper, UnitOfWork } from "./unit-of-work"

/** What a maker's configuration gave: the `DataSource`, and whether it is the maker's to destroy. */
export interface ConfiguredDataSource {
  readonly dataSource: DataSource
  readonly isOwned: boolean
}

/**
 * One `DataSource` of a maker and the sessions made from it. `reset()` leaves it behind: its sessions finish on it, and with
 * the last of them it ends. It is prepared first (its metadata are built) and connected when the first session begins.
 */
export class Generation implements UnitKeeper {
  readonly units = new LinkedList<UnitOfWork>()
  /** Resolves when sessions can be made; rejects where the configuration is at fault. */
  readonly preparing: Promise<void>
  #source: GenerationSource | undefined
  #isOwned = false
  #onDrained: (() => void)[] = []
  #retiring: Promise<void> | undefined

  constructor(
    configure: () => Promise<ConfiguredDataSource>,
    private readonly tally: Tally,
    private readonly onStartFailed: () => void,
  ) {
    this.preparing = this.#prepare(configure)
  }

  get isPrepared(): boolean {
    return this.#source !== undefined
  }

  get waiting(): number {
    return this.#source?.engine?.waiting ?? 0
  }

  get pool(): PoolStats {
    return this.#source?.engine?.stats() ?? { size: 0, max: 0 }
  }

  /** The `DataSource`, initialised now if it was not. */
  async start(): Promise<DataSource> {
    await this.preparing
    const source = this.#prepared()
    await source.start()
    return source.dataSource
  }

  /** The engine, once started. */
  get engine(): Engine {
    const engine = this.#prepared().engine
    if (engine === undefined) throw new TypeError("The DataSource has not started.")
    return engine
  }

  /** Gives the sessions that begin from now on another engine, as specs do. @returns what undoes it */
  replaceEngine(engine: Engine): () => void {
    const source = this.#prepared()
    const own = source.engine
    source.engine = engine
    return () => {
      source.engine = own
    }
  }

  /** Opens a session. The generation is prepared. */
  open(options: ResolvedSessionOptions, context: SessionContext): Session {
    const unit = new UnitOfWork(this.#prepared(), options, context, this.tally, this)
    const session = new Session(unit)
    this.units.push(unit)
    if (context.warnAfterMs !== undefined) watchGroup(this.units, context.warnAfterMs)
    return session
  }

  /** Called when a session has closed. */
  forget(unit: UnitOfWork): void {
    this.units.remove(unit)
    if (this.units.size === 0 && this.#onDrained.length > 0) for (const drained of this.#onDrained.splice(0)) drained()
  }

  /**
   * Waits until every session has ended, then destroys the `DataSource`.
   * @param timeoutMs after it, open sessions are rolled back and closed; default: waits without limit
   */
  async retire(timeoutMs?: number): Promise<void> {
    this.#retiring ??= this.#end()
    if (timeoutMs === undefined) return this.#retiring
    const timer = setTimeout(() => {
      for (const unit of this.units.all()) void unit.cancel()
    }, timeoutMs)
    try {
      await this.#retiring
    } finally {
      clearTimeout(timer)
    }
  }

  async #prepare(configure: () => Promise<ConfiguredDataSource>): Promise<void> {
    const { dataSource, isOwned } = await configure()
    await buildMetadata(dataSource)
    this.#isOwned = isOwned
    this.#source = new GenerationSource(dataSource, this.onStartFailed)
  }

  #prepared(): GenerationSource {
    if (this.#source === undefined) throw new TypeError("A session was opened before its DataSource was prepared.")
    return this.#source
  }

  async #end(): Promise<void> {
    try {
      await this.preparing
    } catch {
      // Whoever asked for a session has been told; there is nothing to end.
      return
    }
    if (this.units.size > 0) await new Promise<void>((resolve) => this.#onDrained.push(resolve))
    await this.#prepared().end(this.#isOwned)
  }
}

/** Longer than any cancel; a connect that hangs is left behind. */
const LONGEST_RETURN_MS = 3_000

/** Starts the `DataSource` once for all that ask at the same time; a failed start is forgotten, and the next one tries again. */
class GenerationSource implements EngineSource {
  engine: Engine | undefined
  #starting: Promise<Engine> | undefined

  constructor(
    readonly dataSource: DataSource,
    private readonly onStartFailed: () => void,
  ) {}

  start(): Promise<Engine> {
    this.#starting ??= this.#start()
    return this.#starting
  }

  async end(isOwned: boolean): Promise<void> {
    try {
      await this.#starting
    } catch {
      // Whoever began a transaction has been told; there is nothing to end.
    }
    if (!isOwned) return
    // A driver's pool may wait for ever for a connection that is ended under it (mysql2 3.24 `base/pool.js`, `end()`).
    const returned = this.engine?.whenReturned?.()
    if (returned) await Promise.race([returned, sleep(LONGEST_RETURN_MS, undefined, { ref: false })])
    // One that stands in for the real one holds a connection, which the `DataSource` would wait for.
    this.engine?.close()
    closeEngine(this.dataSource)
    if (this.dataSource.isInitialized) await this.dataSource.destroy()
  }

  async #start(): Promise<Engine> {
    try {
      if (!this.dataSource.isInitialized) await initialize(this.dataSource)
      const engine = engineOf(this.dataSource)
      await engine.learn?.()
      this.engine = engine
      return engine
    } catch (error) {
      this.#starting = undefined
      this.onStartFailed()
      throw error
    }
  }
}
