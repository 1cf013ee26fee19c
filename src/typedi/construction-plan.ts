import { Container, type Handler, type ServiceIdentifier } from "typedi"
import { type Class, globalContainer, type KnownService } from "../request/injection"

/** What is handed to one parameter of a constructor. */
export type Argument =
  | { readonly kind: "handler"; readonly handler: Handler }
  | { readonly kind: "service"; readonly type: Class }
  | { readonly kind: "nothing" }

/** How an object of a class is built, found out once for all requests. */
export interface ConstructionPlan {
  readonly parameters: readonly Argument[]
  readonly properties: readonly Handler[]
}

interface KeptPlan extends ConstructionPlan {
  /** how many handlers there were; they are only ever added */
  readonly handlers: number
}

const plans = new WeakMap<Class, KeptPlan>()

/** Read for this: typedi 0.10.0 `initializeParams` and `applyPropertyHandlers`, which look all of it up for each object. */
export function planOf(type: Class): ConstructionPlan {
  const { handlers } = Container
  let plan = plans.get(type)
  if (plan?.handlers !== handlers.length) {
    plan = {
      handlers: handlers.length,
      parameters: parametersOf(type),
      properties: handlers.filter(isPropertyOf(type)),
    }
    plans.set(type, plan)
  }
  return plan
}

/** Where in the global container's list a service was seen last: typedi looks through all of them each time. */
const places = new Map<ServiceIdentifier, number>()

/** The global container's definition, as it is now. */
export function definitionOf(id: ServiceIdentifier): KnownService | undefined {
  const { services } = globalContainer()
  const seen = services[places.get(id) ?? -1]
  if (seen?.id === id) return seen
  const place = services.findIndex((service) => service.id === id)
  if (place < 0) return undefined
  places.set(id, place)
  return services[place]
}

const PRIMITIVES: readonly string[] = ["string", "boolean", "number", "object"]

function parametersOf(type: Class): readonly Argument[] {
  const { getMetadata } = Reflect as { getMetadata?: (key: string, target: object) => unknown }
  const types = (getMetadata?.("design:paramtypes", type) ?? []) as (Class | undefined)[]
  return types.map((parameter, index) => {
    const handler = Container.handlers.find((one) => {
      const { object } = one as { object: unknown }
      return (object === type || object === Object.getPrototypeOf(type)) && one.index === index
    })
    if (handler) return { kind: "handler", handler }
    if (parameter?.name && !PRIMITIVES.includes(parameter.name.toLowerCase()))
      return { kind: "service", type: parameter }
    return { kind: "nothing" }
  })
}

function isPropertyOf(type: Class): (handler: Handler) => boolean {
  return ({ object, index, propertyName }) => {
    if (typeof index === "number" || !propertyName) return false
    const owner = (object as object).constructor
    return owner === type || type.prototype instanceof owner
  }
}
