import { Container } from "typedi"
import { assertVariables } from "../engine/variables"
import { findMaker } from "../request/session-request"
import { SessionMaker } from "../session/session-maker"

/**
 * Called when `variables` are given. What cannot be known yet (a maker that is registered later, or whose database comes from
 * a function) is refused at the first statement.
 * @throws {SessionOptionsError} where the default maker's database has none, as far as its configuration tells now
 */
export function assertVariablesSupported(): void {
  const maker = Container.has(SessionMaker) ? findMaker(SessionMaker) : new SessionMaker()
  const { databaseType } = maker
  if (databaseType !== undefined) assertVariables(databaseType)
}
