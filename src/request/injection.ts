import { Container, type ServiceIdentifier } from "typedi"
import { SessionOptionsError } from "../errors"

/** A class; typedi's own type for it is not exported. */
export type Class = abstract new (...parameters: never[]) => unknown

/** What typedi 0.10.0 knows of a service; `findService` and `services` are private there, and nothing else tells. */
export interface KnownService {
  readonly id: ServiceIdentifier
  readonly type?: Class | null
  readonly factory?: unknown
  readonly value: unknown
  readonly global?: boolean
  readonly multiple?: boolean
  readonly transient?: boolean
}

interface OpenContainer {
  readonly services: readonly KnownService[]
  findService(id: ServiceIdentifier): KnownService | undefined
  findAllServices(id: ServiceIdentifier): KnownService[]
}

/** typedi's global container, with what is private there. */
export function globalContainer(): OpenContainer {
  return Container.of(undefined) as unknown as OpenContainer
}

/** Classes that a session is injected into. */
const owners = new Set<Class>()

export function addOwner(owner: Class): void {
  owners.add(owner)
}

/** What building a class comes to, as far as types tell. */
interface Findings {
  /** the classes from the first one to the one that a session is injected into */
  readonly path: readonly Class[] | undefined
  /** whether there is nothing else that types do not tell: factories, tokens, interfaces */
  readonly isComplete: boolean
}

/** Whether a session may be injected when one of `classes` is built. */
export function mayBeGivenSession(classes: Iterable<Class>): boolean {
  for (const one of classes) {
    const { path, isComplete } = look(one, new Set())
    if (path || !isComplete) return true
  }
  return false
}

/**
 * Called when a server is built.
 * @throws {SessionOptionsError} naming a `{ global: true }` service that a session is injected into, or into what it is made
 *   of: it is built once, and would keep one request's session for all
 */
export function assertNoGlobalOwners(): void {
  for (const { global, type } of globalContainer().services) {
    if (!global || !type) continue
    refuseSession(
      type,
      "is a { global: true } service",
      "Leave out global, or use currentSession() with sessions({ ambient: true })",
    )
  }
}

/** @throws {SessionOptionsError} naming a class of `@UseBefore()` or `@UseAfter()` that a session is injected into */
export function assertNoMiddlewareOwner(middleware: Class): void {
  refuseSession(
    middleware,
    "is a middleware class, which routing-controllers asks for without the request",
    "Take await getSession(ctx) in its use() instead",
  )
}

function refuseSession(root: Class, what: string, remedy: string): void {
  const { path } = look(root, new Set())
  if (path === undefined) return
  const names = path.map(({ name }) => name)
  const way = names.length > 1 ? ` (by way of ${names.slice(1).join(", ")})` : ""
  throw new SessionOptionsError(
    `${names[0]} ${what} with an @InjectSession()${way}: it is built once and would keep one request's session for all. ${remedy}.`,
  )
}

function look(one: Class, seen: Set<Class>): Findings {
  if (isOwner(one)) return { path: [one], isComplete: true }
  seen.add(one)
  let isComplete = true
  for (const dependency of dependenciesOf(one)) {
    const next = dependency && classBehind(dependency)
    if (next === undefined) isComplete = false
    if (!next || seen.has(next)) continue
    const found = look(next, seen)
    if (found.path) return { path: [one, ...found.path], isComplete }
    if (!found.isComplete) isComplete = false
  }
  return { path: undefined, isComplete }
}

function isOwner(one: Class): boolean {
  for (let next: unknown = one; typeof next === "function"; next = Object.getPrototypeOf(next)) {
    if (owners.has(next as Class)) return true
  }
  return false
}

/** @returns null where nothing is built for a request, undefined where that cannot be known */
function classBehind(dependency: Class): Class | null | undefined {
  const service = globalContainer().findService(dependency as ServiceIdentifier)
  if (service === undefined || service.factory) return undefined
  return service.global ? null : (service.type ?? null)
}

/** Read for this: typedi 0.10.0 `initializeParams` and `applyPropertyHandlers`. */
function dependenciesOf(one: Class): (Class | undefined)[] {
  const handlers = Container.handlers.filter(({ object }) => belongsTo(object, one))
  const parameters = (designOf("design:paramtypes", one) ?? []) as (Class | undefined)[]
  const byType = parameters.filter((type, index) => {
    return type && !PRIMITIVES.includes(type.name) && !handlers.some((handler) => handler.index === index)
  })
  // The identifier of an @Inject() is known to typedi alone; it mostly is the declared type.
  const injected = handlers.flatMap(({ object, propertyName, index }) => {
    const type = index === undefined ? designOf("design:type", object, propertyName) : parameters[index]
    return [type as Class | undefined, undefined]
  })
  return [...byType, ...injected]
}

const PRIMITIVES: readonly string[] = ["String", "Boolean", "Number", "Object"]

/** A handler is registered for the class (constructor parameter), or for its prototype (property). */
function belongsTo(object: object, one: Class): boolean {
  return object === one || object === Object.getPrototypeOf(one) || one === object.constructor || isBelow(one, object)
}

function isBelow(one: Class, prototype: object): boolean {
  return typeof prototype === "object" && Object.prototype.isPrototypeOf.call(prototype, one.prototype)
}

function designOf(key: string, target: object, property?: string): unknown {
  const { getMetadata } = Reflect as { getMetadata?: (key: string, target: object, property?: string) => unknown }
  return getMetadata?.(key, target, property)
}
