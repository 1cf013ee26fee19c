import { getMetadataArgsStorage, type RoutingControllersOptions } from "routing-controllers"
import { type Constructable, Container } from "typedi"

/**
 * Makes typedi know the controllers, middleware and interceptors that carry no `@Service()`, so that `useContainer(Container)`
 * can build them: typedi 0.10 refuses a class that was not registered. What is registered stays as it is.
 * Called before the server is built and after it, when classes named by a glob have been imported.
 */
export function registerClasses(options: RoutingControllersOptions): void {
  const { controllers, middlewares, interceptors, uses, useInterceptors } = getMetadataArgsStorage()
  for (const list of [options.controllers, options.middlewares, options.interceptors]) {
    for (const given of list ?? []) if (typeof given === "function") register(given)
  }
  for (const { target } of [...controllers, ...middlewares, ...interceptors]) register(target)
  // These may be plain functions, too.
  for (const { middleware } of uses) if (middleware.prototype?.use) register(middleware)
  for (const { interceptor } of useInterceptors) if (interceptor.prototype?.intercept) register(interceptor)
}

function register(target: unknown): void {
  const id = target as Constructable<unknown>
  if (!Container.has(id)) Container.set({ id, type: id })
}
