import { type Constructable, Container, type ContainerInstance } from "typedi"
import { SessionScopeError } from "../errors"
import { openSession } from "../koa/sessions"
import { addKnownMaker, addOwner, preparationFailure } from "../request/known-makers"
import { type RequestSessionOptions, SessionRequest } from "../request/session-request"
import type { Session } from "../session/session"
import { contextOf } from "./request-container"

/**
 * Injects the request's session into a `@Service()` class, at any depth: as a constructor parameter or a property. It needs
 * `useContainer(new RequestContainer())`, and is the same session that `@Session()` with the same options gives.
 * @throws {SessionOptionsError} at decoration, for an unknown option or one out of range
 * @throws {SessionScopeError} when the class is built outside of a request: as a `{ global: true }` service, a middleware
 *   class, or by typedi's global container
 * @example
 * \@Service() class Users { constructor(@InjectSession() private readonly db: Session) {} }
 */
export function InjectSession(options: RequestSessionOptions = {}): ParameterDecorator & PropertyDecorator {
  return function injectSession(target: object, property: string | symbol | undefined, index?: number): void {
    const owner = typeof target === "function" ? target : target.constructor
    const place = `@InjectSession() in ${owner.name}`
    const request = new SessionRequest(options, place)
    addKnownMaker(request.identifier)
    addOwner(owner)
    Container.registerHandler({
      object: target as Constructable<unknown>,
      propertyName: property as string,
      index: index as number,
      value: (container) => sessionFor(container, request, place),
    })
  } as ParameterDecorator & PropertyDecorator
}

function sessionFor(container: ContainerInstance, request: SessionRequest, place: string): Session {
  const ctx = contextOf(container)
  if (ctx === undefined) {
    throw new SessionScopeError(
      `${place}: the class was built outside of a request, and would keep one request's session for all. ` +
        "Use useContainer(new RequestContainer()), leave out { global: true }, and in middleware classes take " +
        "await getSession(ctx) in use() instead; code that must be global can call currentSession() with ambient: true.",
    )
  }
  const session = openSession(ctx, request, place)
  if (!(session instanceof Promise)) return session
  session.catch(() => undefined)
  throw (
    preparationFailure(request.identifier) ??
    new SessionScopeError(
      `${place}: the SessionMaker is not prepared. Use useKoaServer() of routing-controllers-typeorm, which sees to it.`,
    )
  )
}
