import Koa from "koa"
import { createServer, type RoutingControllersOptions } from "routing-controllers"
import { assertNoGlobalOwners } from "../request/injection"
import { registerClasses } from "./register-classes"
import { SessionKoaDriver } from "./session-koa-driver"
import { sessions } from "./sessions"
import type { SessionsOptions } from "./sessions-options"

/** routing-controllers' own options, and those of `sessions()`. */
export interface SessionServerOptions extends RoutingControllersOptions {
  readonly sessions?: SessionsOptions
}

/**
 * Registers the controllers in a Koa application, as routing-controllers' own function of this name does, with `sessions()`
 * in front of them and a driver that commits before it answers.
 * @returns `app`
 * @throws {SessionOptionsError} where options of `sessions()` or of a `@Session()` are wrong
 */
export function useKoaServer<T extends Koa>(app: T, { sessions: options, ...rest }: SessionServerOptions = {}): T {
  assertNoGlobalOwners()
  app.use(sessions(options))
  registerClasses(rest)
  createServer(new SessionKoaDriver(app), rest)
  registerClasses(rest)
  return app
}

/** Makes a Koa application and registers the controllers in it: see `useKoaServer()`. */
export function createKoaServer(options: SessionServerOptions = {}): Koa {
  return useKoaServer(new Koa(), options)
}
