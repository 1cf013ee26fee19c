import { CountedStorage } from "./counted-storage"
import type { SessionOptions } from "./options"
import type { Session } from "./session"
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

export function runInAmbience<T>(ambience: Ambience, fn: () => Promise<T>): Promise<T> {
  return storage.run(ambience, fn)
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

  sessionOf(maker: SessionOpener, options?: SessionOptions): Session | Promise<Session> | undefined {
    return maker === this.maker ? this.session : this.#outer?.sessionOf(maker, options)
  }

  hasSession(maker: SessionOpener): boolean {
    return (maker === this.maker && !this.session.closed) || this.#outer?.hasSession(maker) === true
  }
}
