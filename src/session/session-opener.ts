import type { ResolvedSessionOptions, SessionOptions } from "./options"
import type { Session } from "./session"
import type { SessionContext } from "./session-context"

/** What a request, or a `run()`, needs of a maker; one is told from another by identity. */
export interface SessionOpener {
  /** the defaults that its sessions start from */
  readonly sessionDefaults: SessionOptions
  /** Opens a session, without a promise where the maker is prepared. */
  openWith(options: ResolvedSessionOptions, context: SessionContext): Session | Promise<Session>
}
