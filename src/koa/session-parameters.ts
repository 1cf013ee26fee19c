import type { ActionMetadata } from "routing-controllers"
import { SessionOptionsError } from "../errors"
import type { SessionRequest } from "../request/session-request"

/** The function that routing-controllers keeps for a custom parameter decorator, and what it asks for. */
const requests = new WeakMap<object, SessionRequest>()

export function registerParameter(value: object, request: SessionRequest): void {
  requests.set(value, request)
}

/**
 * Checks the `@Session()` parameters of one action, when the server is built.
 * @throws {SessionOptionsError} where two of them ask the same maker for different options
 */
export function assertOneSessionEach(action: ActionMetadata): void {
  const keys = new Map<unknown, string>()
  for (const { identifier, key } of requestsOf(action)) {
    const known = keys.get(identifier)
    if (known !== undefined && known !== key) {
      throw new SessionOptionsError(
        `${action.target.name}.${action.method} has two @Session() parameters with different options for the same maker: ` +
          "give both the same options, or use the session of one of them for all.",
      )
    }
    keys.set(identifier, key)
  }
}

function requestsOf(action: ActionMetadata): SessionRequest[] {
  return action.params.flatMap(({ transform }) => (transform && requests.get(transform)) ?? [])
}
