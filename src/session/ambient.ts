import { SessionOptionsError } from "../errors"
import { CountedStorage } from "./counted-storage"
import { SESSION_OPTION_NAMES, type SessionOptions } from "./options"
import { type Session, unitOf } from "./session"
import type { SessionOpener } from "./session-opener"

/** What the code that runs in it shares without handing it on: a request, or a `run()`. */
export interface Ambience {
  /**
   * The session that code in it means when it names none: the one in use, or a new one where none is.
   * @param options where only a session with these will do
   * @returns `undefined` where it has none of that maker
   */
  sessionOf(maker: SessionOpener, options?: SessionOptions): Session | Promise<Session> | undefined
  /** Whether a session of that maker is in use in it. */
  hasSession(maker: SessionOpener): boolean
}

const storage = new CountedStorage<Ambience>()
let isKept = false

export function runInAmbience<T>(ambience: Ambience, fn: () => Promise<T>): Promise<T> {
  return storage.run(ambience, fn)
}

/**
 * From now on code that a request or a `run()` has left behind goes on belonging to it, and is refused; else it could not be
 * told from code that never belonged to one, and what joins a session by itself would write without a transaction.
 */
export function keepAmbience(): void {
  if (!isKept) storage.keep()
  isKept = true
}

export function currentAmbience(): Ambience | undefined {
  return storage.get()
}

/** Of a `run()`: its own session, and for other makers what surrounds it. */
export class RunAmbience implements Ambience {
  readonly #outer = currentAmbience()

  constructor(
    private readonly maker: SessionOpener,
    private readonly session: Session,
  ) {}

  sessionOf(maker: SessionOpener, options: SessionOptions = {}): Session | Promise<Session> | undefined {
    if (maker !== this.maker) return this.#outer?.sessionOf(maker, options)
    this.#assertSame(options)
    return this.session
  }

  hasSession(maker: SessionOpener): boolean {
    return (maker === this.maker && !this.session.closed) || this.#outer?.hasSession(maker) === true
  }

  /** A `run()` has one session, whose transaction is what it is. */
  #assertSame(options: SessionOptions): void {
    const own = unitOf(this.session).options
    const different = SESSION_OPTION_NAMES.filter((name) => options[name] !== undefined && options[name] !== own[name])
    if (different.length === 0) return
    throw new SessionOptionsError(
      `A session with other options (${different.join(", ")}) was asked for inside a run(), which has one session: ` +
        'give the options to that run(), or use maker.run() with propagation "new".',
    )
  }
}
