import { type Action, createParamDecorator } from "routing-controllers"
import { registerParameter } from "../koa/session-parameters"
import { openSession } from "../koa/sessions"
import { type RequestSessionOptions, SessionRequest } from "../request/session-request"
import type { Session as SessionObject } from "../session/session"

/** The session that `@Session()` injects: TypeORM's `EntityManager` in a transaction of the request's own. */
export type Session = SessionObject

/**
 * Injects the request's session into an action's parameter. Nothing is taken from the database until it is used.
 * Lifetime: until the response body is flushed.
 * @throws {SessionOptionsError} at decoration, for an unknown option or one out of range
 * @throws {SessionScopeError} in the request, where `sessions()` is not installed
 * @see FastAPI `db: Session = Depends(get_db)`
 * @example
 * \@Get("/:id") get(@Session() db: Session, @Param("id") id: string) { return db.findOneByOrFail(User, { id }) }
 */
export function Session(options: RequestSessionOptions = {}): ParameterDecorator {
  return function injectSession(target, method, index): void {
    const place = `@Session() on ${target.constructor.name}.${String(method)}`
    const request = new SessionRequest(options, place)
    const value = (action: Action) => openSession(action.context, request, place)
    registerParameter(value, request)
    createParamDecorator({ value })(target, String(method), index)
  }
}
