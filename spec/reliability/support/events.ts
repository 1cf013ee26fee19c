import { subscribe, unsubscribe } from "node:diagnostics_channel"
import type {
  SessionClosedEvent,
  SessionEvent,
  TransactionEndedEvent,
  TransactionEvent,
  TransactionFailedEvent,
} from "../../../src/diagnostics/channels"

export type Payload = SessionEvent &
  Partial<SessionClosedEvent & TransactionEvent & TransactionEndedEvent & TransactionFailedEvent>

export interface RecordedEvent {
  /** channel's name without the package's */
  readonly name: string
  readonly payload: Payload
}

const PREFIX = "routing-controllers-typeorm:"

export const CHANNELS = [
  "session.opened",
  "session.closed",
  "transaction.begun",
  "transaction.committed",
  "transaction.rolledBack",
  "transaction.failed",
] as const

/** Collects what is published, until `stop()`. */
export function recordEvents(channels: readonly string[] = CHANNELS) {
  const events: RecordedEvent[] = []
  const listeners = channels.map((name) => {
    const listener = (payload: unknown) => void events.push({ name, payload: payload as Payload })
    subscribe(`${PREFIX}${name}`, listener)
    return { name, listener }
  })
  return {
    events,
    names: () => events.map(({ name }) => name),
    clear: () => void events.splice(0),
    stop() {
      for (const { name, listener } of listeners) unsubscribe(`${PREFIX}${name}`, listener)
    },
  }
}
