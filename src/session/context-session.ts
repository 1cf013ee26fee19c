import type { DataSource } from "typeorm"
import { initialize } from "../engine/data-source"
import { engineOf } from "../engine/engine"
import { inAmbience } from "./ambient"
import { runManaged } from "./managed"
import { assertSessionOptions, resolveSessionOptions, type SessionOptions } from "./options"
import { Session } from "./session"
import type { SessionContext } from "./session-context"
import { reportAsWarning } from "./session-maker"
import { UnitOfWork } from "./unit-of-work"

/**
 * Gives `fn` a session on a `DataSource` of the caller's and ends it: commits when `fn` resolves, rolls back when it rejects,
 * always closes. A `DataSource` that is not initialised yet is initialised; it stays open and is the caller's to destroy.
 * @returns what `fn` resolves with, once it is committed
 * @throws what `fn` rejects with; what `commit()` throws; {SessionOptionsError}
 * @see fastapi-restful `context_session(engine)`: the same meaning.
 */
export async function contextSession<T>(
  dataSource: DataSource,
  fn: (session: Session) => T | Promise<T>,
  options?: SessionOptions,
): Promise<T> {
  if (options) assertSessionOptions(options, "contextSession()")
  if (!dataSource.isInitialized) await initialize(dataSource)
  const source = { dataSource, engine: engineOf(dataSource), start: async () => engineOf(dataSource) }
  const resolved = resolveSessionOptions(options)
  const tally = { committed: 0, rolledBack: 0, failed: 0, refused: 0 }
  const context = inAmbience(CONTEXT)
  return runManaged(() => new Session(new UnitOfWork(source, resolved, context, tally, undefined)), resolved, fn)
}

const CONTEXT: SessionContext = { asWriter: true, label: () => "contextSession()", report: reportAsWarning }
