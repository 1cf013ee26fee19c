import type { Context } from "koa"
import { Container, ContainerInstance, type ServiceIdentifier, Token } from "typedi"
import { reportTo, runAtEnd } from "../koa/request-context"
import { whenRequestEnds } from "../koa/request-end"
import { globalContainer, type KnownService } from "../request/injection"
import { isKnownMaker } from "../request/known-makers"
import { findMaker } from "../request/session-request"
import { SessionMaker } from "../session/session-maker"
import { type Argument, definitionOf, planOf } from "./construction-plan"

interface Destroyable {
  destroy(): unknown
}

type Lookup = (id: ServiceIdentifier) => unknown

/**
 * One request's container. Read for this: typedi 0.10.0 `container-instance.class.js`. A container that is not made by
 * `Container.of()` is kept by nobody, so it ends with its request; definitions it does not have come from the global
 * container. What typedi does not do for such a container is done here: a global service is built by the global container, or
 * it would be given the request's services; what was set as a value is that value; a circle of injected properties is built
 * once; how a class is built is looked up once and not for each request.
 */
export class ScopedContainer extends ContainerInstance {
  readonly #values = new Map<ServiceIdentifier, unknown>()
  /** identifiers whose definitions are in this container itself */
  readonly #own = new Set<ServiceIdentifier>()
  #destroyable: Destroyable[] | undefined

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
    const value = this.#values.get(identifier)
    return value === undefined ? this.#find(identifier) : value
  }

  override getMany<T>(identifier: ServiceIdentifier<T>): T[]
  override getMany(identifier: ServiceIdentifier): unknown[] {
    if (!this.#own.has(identifier)) this.#define(identifier, globalContainer().findAllServices(identifier))
    const values = (super.getMany as (id: ServiceIdentifier) => unknown[])(identifier)
    for (const value of values) this.#destroyAtEnd(value)
    return values
  }

  override has(identifier: ServiceIdentifier): boolean {
    return (
      (super.has as (id: ServiceIdentifier) => boolean)(identifier) || (Container.has as Lookup)(identifier) === true
    )
  }

  #find(identifier: ServiceIdentifier): unknown {
    if (!this.#own.has(identifier)) {
      if (identifier === SessionMaker || isKnownMaker(identifier)) return findMaker(identifier as Token<SessionMaker>)
      const service = definitionOf(identifier)
      if (service && isShared(service)) return (Container.get as Lookup)(identifier)
      if (service?.type && !service.factory && !service.multiple) return this.#build(identifier, service)
      if (service) this.#define(identifier, [service])
    }
    const value = (super.get as Lookup)(identifier)
    this.#destroyAtEnd(value)
    return value
  }

  #build(identifier: ServiceIdentifier, { type, transient }: KnownService): unknown {
    const ServiceClass = type as unknown as new (...values: unknown[]) => Record<string, unknown>
    const { parameters, properties } = planOf(ServiceClass)
    const values = parameters.map((parameter) => this.#argument(parameter))
    // typedi's last argument, for JavaScript without decorators.
    values.push(this)
    const value = new ServiceClass(...values)
    // Before its properties, which may lead back to it.
    if (!transient) this.#values.set(identifier, value)
    for (const { propertyName, value: inject } of properties) value[propertyName as string] = inject(this)
    this.#destroyAtEnd(value)
    return value
  }

  #argument(argument: Argument): unknown {
    if (argument.kind === "service") return this.get(argument.type as ServiceIdentifier)
    return argument.kind === "handler" ? argument.handler.value(this) : undefined
  }

  /** Takes definitions over; without a value, so that each is built here. */
  #define(identifier: ServiceIdentifier, services: readonly KnownService[]): void {
    this.#own.add(identifier)
    for (const service of services) {
      const { value, ...definition } = service
      this.set({ ...definition, ...(isShared(service) && { value }), eager: false } as never)
    }
  }

  #destroyAtEnd(value: unknown): void {
    if (!isDestroyable(value)) return
    if (this.#destroyable === undefined) {
      this.#destroyable = []
      whenRequestEnds(this.ctx, { end: () => runAtEnd(this.ctx, () => this.#destroyAll()) })
    }
    if (!this.#destroyable.includes(value)) this.#destroyable.push(value)
  }

  async #destroyAll(): Promise<void> {
    for (const service of this.#destroyable?.splice(0).reverse() ?? []) {
      try {
        await service.destroy()
      } catch (error) {
        reportTo(this.ctx, error)
      }
    }
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
