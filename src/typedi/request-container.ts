import type { Context } from "koa"
import type { Action, ClassConstructor, IocAdapter } from "routing-controllers"
import { Container } from "typedi"
import { attemptOf } from "../koa/request-context"
import { ScopedContainer } from "./scoped-container"

const CONTAINER = Symbol("routing-controllers-typeorm container")

interface ContainedContext extends Context {
  [CONTAINER]?: ScopedContainer
}

/**
 * Gives each request a typedi container of its own, so that `@Service()` classes are built once for each request and share its
 * session; `{ global: true }` ones stay single, and are given nothing of a request. Controllers and interceptors come from
 * it, middleware classes from the global container, as routing-controllers asks for them without the request.
 * At the end of the request, when its sessions are closed, services with a `destroy()` have it called and awaited, the last
 * built first; what it throws goes to Koa's `app.on("error")`.
 * @example
 * useContainer(new RequestContainer())
 */
export class RequestContainer implements IocAdapter {
  get<T>(someClass: ClassConstructor<T>, action?: Action): T {
    if (action === undefined) return Container.get(someClass)
    const ctx = action.context as ContainedContext
    const attempt = attemptOf(ctx)
    let container = ctx[CONTAINER]
    // An action that is run again begins anew: the sessions that its services hold are closed.
    if (container?.attempt !== attempt) {
      container = new ScopedContainer(ctx, attempt)
      ctx[CONTAINER] = container
    }
    return container.get(someClass)
  }
}
