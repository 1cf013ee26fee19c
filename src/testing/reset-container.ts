import { Container } from "typedi"
import { makersClosed } from "../session/session-maker"

/**
 * Resets typedi's container, and resolves when every `SessionMaker` that it dropped has drained and closed. After it, a
 * changed `DATABASE_URI` is in force. Services that were registered as values under a `Token` stay, as typedi has it.
 */
export async function resetContainer(): Promise<void> {
  Container.reset()
  await makersClosed()
}
