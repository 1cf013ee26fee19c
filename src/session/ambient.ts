import { SessionClosedError, SessionOptionsError } from "../errors"
import { CountedStorage } from "./counted-storage"
import { SESSION_OPTION_NAMES, type SessionOptions } from "./options"
import { type Session, unitOf } from "./session"
import type { SessionContext } from "./session-context"
import type { SessionOpener } from "./session-opener"

/**
 * One try of an action. Code that was started in it belongs to it: once it has ended, without success, that code gets no
 * session any more, neither the next try's nor a new one.
 */
export class Attempt {
  hasEnded = false
  /** whether a session that it opened beside those of its request has committed something: it must not be made again */
  hasCommitted = false

  /**
   * @param request whose action it is a try of
   * @param isOne whether it is one try of the action, and not all that the request does
   */
  constructor(
    readonly request: object,
    readonly isOne = false,
  ) {}
}

/** Whether any action may be tried again, so that it has to be known which try code belongs to. */
export let areAttemptsKept = false

/** Called where `retries` above 0 are asked for. */
export function keepAttempts(): void {
  areAttemptsKept = true
  keepAmbience()
}

/** The try of an action that the calling code was started in, where that is known: see `keepAttempts()` and `ambient`. */
export function currentAttempt(): Attempt | undefined {
  return currentAmbience()?.attempt
}

/** What surrounds a session is not run again once work of that session is committed. */
export function inAmbience(context: SessionContext): SessionContext {
  const ambience = currentAmbience()
  if (ambience?.workCommitted === undefined) return context
  return { ...context, workCommitted: () => ambience.workCommitted?.() }
}

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
  readonly attempt?: Attempt | undefined
  /** Called when a `run()` in it, or a session that was opened by hand in it, has committed something. */
  workCommitted?(): void
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

/** Of one try of an action. What surrounds it is that of the request, or nothing where `ambient` is off. */
export class AttemptAmbience implements Ambience {
  readonly attempt: Attempt
  readonly #outer = currentAmbience()

  constructor(request: object) {
    this.attempt = new Attempt(request, true)
  }

  sessionOf(maker: SessionOpener, options?: SessionOptions): Session | Promise<Session> | undefined {
    if (this.attempt.hasEnded) throw endedAttemptError()
    return this.#outer?.sessionOf(maker, options)
  }

  hasSession(maker: SessionOpener): boolean {
    return this.#outer?.hasSession(maker) === true
  }

  workCommitted(): void {
    this.attempt.hasCommitted = true
  }
}

export function endedAttemptError(): SessionClosedError {
  return new SessionClosedError(
    "A session was asked for by code of an action that has failed, or is being run again: its work was rolled back, and what " +
      "comes later must not be stored. Await all work of an action in it; what is to stay in any case, such as a log of " +
      "failures, goes into maker.run().",
  )
}

/** Of a `run()`: its own session, and for other makers what surrounds it. */
export class RunAmbience implements Ambience {
  readonly #outer = currentAmbience()
  readonly attempt = this.#outer?.attempt
  /** whether another session in it has committed something: its function must not be called again */
  hasCommitted = false

  constructor(
    private readonly maker: SessionOpener,
    private readonly session: Session,
  ) {}

  workCommitted(): void {
    this.hasCommitted = true
    this.#outer?.workCommitted?.()
  }

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
