import { Container, type ServiceIdentifier, type Token } from "typedi"
import { keepAttempts } from "../session/ambient"
import {
  assertOnlySessionOptions,
  type ResolvedSessionOptions,
  resolveSessionOptions,
  type SessionOptions,
} from "../session/options"
import { SessionMaker } from "../session/session-maker"
import type { SessionOpener } from "../session/session-opener"

/** Options of `@Session()` and `getSession()`. */
export interface RequestSessionOptions extends SessionOptions {
  /** under which the typedi container has the `SessionMaker`; default the class itself */
  readonly maker?: ServiceIdentifier<SessionMaker>
}

/**
 * The maker in the container. The default one is registered when it is first asked for, built from `DatabaseSettings`:
 * `Container.reset()` drops it and `Container.set(SessionMaker, ...)` replaces it.
 * @throws typedi's `ServiceNotFoundError` for another identifier that is not registered
 */
export function findMaker(identifier: ServiceIdentifier<SessionMaker>): SessionMaker {
  if (identifier === SessionMaker && !Container.has(SessionMaker)) {
    Container.set({ id: SessionMaker, type: SessionMaker, factory: () => new SessionMaker(), global: true })
  }
  // typedi has one overload for each kind of identifier and none for all of them.
  return Container.get(identifier as Token<SessionMaker>)
}

/** What one decorator, or one call, asks for: checked once, and resolved once for each maker and set of defaults. */
export class SessionRequest {
  readonly identifier: ServiceIdentifier<SessionMaker>
  readonly #own: SessionOptions
  #resolvedFor: { readonly maker: SessionOpener; readonly defaults: SessionOptions } | undefined
  #resolved: ResolvedSessionOptions | undefined

  /** @throws {SessionOptionsError} for an unknown option or one out of range; `where` names the place */
  constructor(options: RequestSessionOptions, where: string) {
    const { maker, ...own } = options
    assertOnlySessionOptions(own, ["maker"], where)
    this.identifier = maker ?? SessionMaker
    this.#own = own
    if (own.retries) keepAttempts()
  }

  /** equal for requests that ask for the same of the same maker */
  get key(): string {
    return resolveSessionOptions(this.#own).key
  }

  resolve(maker: SessionOpener, defaults: SessionOptions): ResolvedSessionOptions {
    if (this.#resolved && this.#resolvedFor?.maker === maker && this.#resolvedFor.defaults === defaults) {
      return this.#resolved
    }
    this.#resolvedFor = { maker, defaults }
    this.#resolved = resolveSessionOptions(maker.sessionDefaults, defaults, this.#own)
    return this.#resolved
  }
}
