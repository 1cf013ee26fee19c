import type { DataSource } from "typeorm"
import type { PoolStats } from "../engine/connection"
import { closeEngine, engineOf } from "../engine/engine"
import type { ResolvedSessionOptions } from "./options"
import { Session } from "./session"
import type { Tally } from "./tally"
import { type SessionContext, UnitOfWork } from "./unit-of-work"

/** What a maker's function made: the `DataSource`, and whether it is the maker's to destroy. */
export interface StartedDataSource {
  readonly dataSource: DataSource
  readonly isOwned: boolean
}

/**
 * One start of a maker's `DataSource` and the sessions made from it. `reset()` leaves it behind: its sessions finish on it,
 * and with the last of them it ends.
 */
export class Generation {
  readonly starting: Promise<DataSource>
  /** set once started, so that sessions need not wait */
  dataSource: DataSource | undefined
  readonly units = new Set<UnitOfWork>()
  #isOwned = false
  #onDrained: (() => void)[] = []
  #retiring: Promise<void> | undefined

  constructor(
    start: () => Promise<StartedDataSource>,
    private readonly tally: Tally,
  ) {
    this.starting = start().then(({ dataSource, isOwned }) => {
      this.dataSource = dataSource
      this.#isOwned = isOwned
      return dataSource
    })
  }

  get waiting(): number {
    return this.dataSource ? engineOf(this.dataSource).waiting : 0
  }

  get pool(): PoolStats {
    return this.dataSource ? engineOf(this.dataSource).stats() : { size: 0, max: 0 }
  }

  /** Opens a session. The `DataSource` has started. */
  open(dataSource: DataSource, options: ResolvedSessionOptions, context: SessionContext): Session {
    const unit = new UnitOfWork(engineOf(dataSource), options, context, this.tally, (closed) => this.#forget(closed))
    const session = new Session(unit)
    this.units.add(unit)
    return session
  }

  /**
   * Waits until every session has ended, then destroys the `DataSource`.
   * @param timeoutMs after it, open sessions are rolled back and closed; default: waits without limit
   */
  async retire(timeoutMs?: number): Promise<void> {
    this.#retiring ??= this.#end()
    if (timeoutMs === undefined) return this.#retiring
    const timer = setTimeout(() => {
      for (const unit of this.units) void unit.cancel()
    }, timeoutMs)
    try {
      await this.#retiring
    } finally {
      clearTimeout(timer)
    }
  }

  async #end(): Promise<void> {
    try {
      await this.starting
    } catch {
      // Whoever asked for the DataSource has been told; there is nothing to end.
      return
    }
    if (this.units.size > 0) await new Promise<void>((resolve) => this.#onDrained.push(resolve))
    const { dataSource } = this
    if (!dataSource || !this.#isOwned) return
    closeEngine(dataSource)
    if (dataSource.isInitialized) await dataSource.destroy()
  }

  #forget(unit: UnitOfWork): void {
    this.units.delete(unit)
    if (this.units.size === 0) for (const drained of this.#onDrained.splice(0)) drained()
  }
}
