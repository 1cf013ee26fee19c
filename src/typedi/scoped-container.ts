import type { Context } from "koa"
import { Container, ContainerInstance, type ServiceIdentifier, Token } from "typedi"
import { reportTo } from "../koa/request-context"
import { whenRequestEnds } from "../koa/request-end"
import { globalContainer, type KnownService } from "../request/injection"
import { isKnownMaker } from "../request/known-makers"
import { findMaker } from "../request/session-request"
import { SessionMaker } from "../session/session-maker"

interface Destroyable {
  destroy(): unknown
}

type Lookup = (id: ServiceIdentifier) => unknown

/**
 * One request's container. Read for this: typedi 0.10.0 `container-instance.class.js`. A container that is not made by
 * `Container.of()` is kept by nobody, so it ends with its request; definitions it does not have come from the global
 * container. Three things that typedi does not do for such a container are done here: a global service is built by the global
 * container, or it would be given the request's services; what was set as a value is that value; a circle of injected
 * properties is built once.
 */
export class ScopedContainer extends ContainerInstance {
  readonly #known = new Set<ServiceIdentifier>()
  readonly #destroyable = new Set<Destroyable>()

  constructor(
    readonly ctx: Context,
    /** how often the action was begun before */
    readonly attempt: number,
  ) {
    // Containers are told apart by this; a new object is equal to no other.
    super({} as string)
  }

  override get<T>(identifier: ServiceIdentifier<T>): T
  override get(identifier: ServiceIdentifier): unknown {
    if (!this.#known.has(identifier)) {
      if (identifier === SessionMaker || isKnownMaker(identifier)) return findMaker(identifier as Token<SessionMaker>)
      const service = globalContainer().findService(identifier)
      if (service && isShared(service)) return (Container.get as Lookup)(identifier)
      if (service) this.#define(identifier, [service])
    }
    const value = (super.get as Lookup)(identifier)
    this.#destroyAtEnd(value)
    return value
  }

  override getMany<T>(identifier: ServiceIdentifier<T>): T[]
  override getMany(identifier: ServiceIdentifier): unknown[] {
    if (!this.#known.has(identifier)) this.#define(identifier, globalContainer().findAllServices(identifier))
    const values = (super.getMany as (id: ServiceIdentifier) => unknown[])(identifier)
    for (const value of values) this.#destroyAtEnd(value)
    return values
  }

  override has(identifier: ServiceIdentifier): boolean {
    return (
      (super.has as (id: ServiceIdentifier) => boolean)(identifier) || (Container.has as Lookup)(identifier) === true
    )
  }

  /** Takes definitions over; without a value, so that each is built here. */
  #define(identifier: ServiceIdentifier, services: readonly KnownService[]): void {
    this.#known.add(identifier)
    for (const service of services) {
      const { value, ...definition } = service
      this.set({ ...definition, ...(isShared(service) && { value }), eager: false } as never)
    }
  }

  #destroyAtEnd(value: unknown): void {
    if (!isDestroyable(value) || this.#destroyable.has(value)) return
    if (this.#destroyable.size === 0) whenRequestEnds(this.ctx, { end: () => this.#destroyAll() })
    this.#destroyable.add(value)
  }

  async #destroyAll(): Promise<void> {
    for (const service of [...this.#destroyable].reverse()) {
      try {
        await service.destroy()
      } catch (error) {
        reportTo(this.ctx, error)
      }
    }
    this.#destroyable.clear()
  }
}

/** typedi does not export its mark of a service that has not been built. */
const NOT_BUILT: unknown = (() => {
  const container = new ContainerInstance("probe")
  const id = new Token("probe")
  container.set({ id, type: Object } as never)
  return (container as unknown as { findService(id: Token<unknown>): KnownService }).findService(id).value
})()

/**
 * Whether requests are given the global container's object: one of a global service, or one that was set as a value, such as
 * a fake that a spec puts in the place of a class. An object of the class itself may have been built for other code, and is
 * not shared.
 */
function isShared({ global, type, factory, value }: KnownService): boolean {
  if (global) return true
  if (value === NOT_BUILT) return false
  return value instanceof SessionMaker || (!factory && (value as object | null)?.constructor !== type)
}

function isDestroyable(value: unknown): value is Destroyable {
  return typeof value === "object" && value !== null && "destroy" in value && typeof value.destroy === "function"
}
