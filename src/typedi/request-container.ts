import type { Context } from "koa"
import onFinished from "on-finished"
import type { Action, ClassConstructor, IocAdapter } from "routing-controllers"
import { Container, ContainerInstance, type ServiceIdentifier } from "typedi"
import { reportTo } from "../koa/request-context"

/** What typedi 0.10.0 knows of a service; its `findService` is private there. */
interface KnownService {
  readonly id: ServiceIdentifier
  readonly global?: boolean
}

const containers = new WeakMap<Context, RequestContainerInstance>()

/** The request that a container was made for; `undefined` for typedi's own containers. */
export function contextOf(container: ContainerInstance): Context | undefined {
  return container instanceof RequestContainerInstance ? container.ctx : undefined
}

/**
 * Gives each request a typedi container of its own, so that `@Service()` classes are built once for each request and share its
 * session; `{ global: true }` ones stay single, and are given nothing of a request. Controllers and interceptors come from
 * it, middleware classes from the global container, as routing-controllers asks for them without the request.
 * At the end of the request, services with a `destroy()` have it called and awaited, the last built first.
 * @example
 * useContainer(new RequestContainer())
 */
export class RequestContainer implements IocAdapter {
  get<T>(someClass: ClassConstructor<T>, action?: Action): T {
    if (action === undefined) return Container.get(someClass)
    const ctx = action.context as Context
    let container = containers.get(ctx)
    if (container === undefined) {
      container = new RequestContainerInstance(ctx)
      containers.set(ctx, container)
    }
    return container.get(someClass)
  }
}

interface Destroyable {
  destroy(): unknown
}

/**
 * Read for this: typedi 0.10.0 `container-instance.class.js`. A container that is not made by `Container.of()` is kept by
 * nobody, so it ends with its request; definitions it does not have come from the global container. A global service that
 * such a container builds would be given the request's services: it is built by the global one instead.
 */
class RequestContainerInstance extends ContainerInstance {
  readonly #destroyable = new Set<Destroyable>()

  constructor(readonly ctx: Context) {
    // Containers are told apart by this; a new object is equal to no other.
    super({} as string)
  }

  override get<T>(identifier: ServiceIdentifier<T>): T {
    const service = findGlobalService(identifier)
    if (service?.global) return (Container as { get(id: ServiceIdentifier<T>): T }).get(identifier)
    const value = (super.get as (id: ServiceIdentifier<T>) => T).call(this, identifier)
    if (isDestroyable(value) && !this.#destroyable.has(value)) this.#destroyAtEnd(value)
    return value
  }

  #destroyAtEnd(value: Destroyable): void {
    if (this.#destroyable.size === 0) onFinished(this.ctx.res, () => void this.#destroyAll())
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
  }
}

function findGlobalService(identifier: ServiceIdentifier): KnownService | undefined {
  const global = Container.of(undefined) as unknown as { findService(id: ServiceIdentifier): KnownService | undefined }
  return global.findService(identifier)
}

function isDestroyable(value: unknown): value is Destroyable {
  return typeof value === "object" && value !== null && "destroy" in value && typeof value.destroy === "function"
}
