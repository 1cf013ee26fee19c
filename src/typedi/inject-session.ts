import { type Constructable, Container, type ContainerInstance } from "typedi"
import { SessionOptionsError, SessionScopeError } from "../errors"
import { openSession } from "../koa/sessions"
import { addOwner, type Class } from "../request/injection"
import { addKnownMaker, preparationFailure } from "../request/known-makers"
import { type RequestSessionOptions, SessionRequest } from "../request/session-request"
import type { Session } from "../session/session"
import { ScopedContainer } from "./scoped-container"

/**
 * Injects the request's session into a `@Service()` class, at any depth: as a constructor parameter or a property. It needs
 * `useContainer(new RequestContainer())`, and is the same session that `@Session()` with the same options gives.
 * @throws {SessionOptionsError} at decoration, for an unknown option or one out of range, or on anything but a constructor
 *   parameter or a property; when the server is built, for a `{ global: true }` service or a class of `@UseBefore()`
 * @throws {SessionScopeError} when the class is built outside of a request: as a `@Middleware()` class, or by typedi's global
 *   container
 * @example
 * \@Service() class Users { constructor(@InjectSession() private readonly db: Session) {} }
 */
export function InjectSession(options: RequestSessionOptions = {}): ParameterDecorator & PropertyDecorator {
  return function injectSession(target: object, property: string | symbol | undefined, index?: number): void {
    const owner = (typeof target === "function" ? target : target.constructor) as Class
    const place = `@InjectSession() in ${owner.name}`
    if (!isInjectable(target, property, index)) {
      throw new SessionOptionsError(
        `${place}: it stands at a constructor parameter or a property; for a parameter of an action there is @Session().`,
      )
    }
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

/** typedi fills parameters of the constructor, whose target is the class, and properties, whose target is the prototype. */
function isInjectable(target: object, property: string | symbol | undefined, index: number | undefined): boolean {
  if (typeof target === "function") return property === undefined && index !== undefined
  return property !== undefined && index === undefined
}

function sessionFor(container: ContainerInstance, request: SessionRequest, place: string): Session {
  if (!(container instanceof ScopedContainer)) {
    throw new SessionScopeError(
      `${place}: the class was built outside of a request, and would keep one request's session for all. ` +
        "Use useContainer(new RequestContainer()), leave out { global: true }, and in middleware classes take " +
        "await getSession(ctx) in use() instead; code that must be global can call currentSession() with ambient: true.",
    )
  }
  const session = openSession(container.ctx, request, place)
  if (!(session instanceof Promise)) return session
  session.catch(() => undefined)
  throw (
    preparationFailure(request.identifier) ??
    new SessionScopeError(
      `${place}: the SessionMaker is not prepared. Use useKoaServer() of routing-controllers-typeorm, which sees to it.`,
    )
  )
}
