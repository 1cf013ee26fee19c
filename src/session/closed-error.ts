import { SessionClosedError } from "../errors"

/** @param label who used the session */
export function closedError(what: string, label: string): SessionClosedError {
  return new SessionClosedError(
    `${what} was refused: the session of ${label} is closed. ` +
      "Await all database work before the action returns, or open a session of its own with maker.run().",
  )
}
