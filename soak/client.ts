import { setTimeout as sleep } from "node:timers/promises"
import type { Answer, HttpClient } from "./http-client"
import { type BankDatabase, type PlannedRequest, planRequest } from "./plan"
import type { RunRecord } from "./record"

/** What 503 asks of a client, in a run that lasts a minute. */
const RETRY_AFTER_MS = 25

/** Requests that go wrong by themselves, as the table of faults names them. */
const FAULT_NAMES: Readonly<Record<string, string>> = {
  throw: "handler throws",
  refuse: "handler throws",
  forget: "handler throws, a write not awaited",
  status: "handler sets a status of 4xx",
  swallow: "handler swallows a failed statement",
  savepoint: "savepoint fails",
  overdraft: "check constraint",
  deferred: "deferred constraint",
  unknown: "unknown account",
  malformed: "malformed body",
  duplicate: "duplicate id",
}

export interface ClientRun {
  readonly database: BankDatabase
  readonly seed: number
  readonly client: number
  readonly http: HttpClient
  readonly record: RunRecord
  /** Resolves when the next request may be sent; `false` where there is to be none. */
  readonly mayGoOn: () => Promise<boolean>
}

/** Sends the planned requests of one client, one after another, until the run ends. */
export async function runClient({ database, seed, client, http, record, mayGoOn }: ClientRun): Promise<void> {
  let lastAcknowledged: PlannedRequest | undefined
  for (let number = 0; await mayGoOn(); number++) {
    const planned = planRequest(database, seed, client, number)
    if (planned.kind === "duplicate" && lastAcknowledged === undefined) continue
    const faultName = FAULT_NAMES[planned.kind]
    if (faultName !== undefined) record.countFault(faultName)
    const { order } = planned.kind === "duplicate" && lastAcknowledged ? lastAcknowledged : planned
    const answer = await send(http, planned, order)
    record.note(planned, movesMoney(planned) ? order : undefined, answer)
    if (!movesMoney(planned)) continue
    let last = answer
    if (isUnknown(answer) && planned.asksAgain && planned.kind !== "duplicate") {
      await sleep(RETRY_AFTER_MS)
      last = await send(http, { ...planned, abortAfterMs: undefined }, order)
      record.note(planned, order, last, true)
    }
    if ("status" in last && last.status === 200) lastAcknowledged = planned
    if (isUnknown(last)) await sleep(RETRY_AFTER_MS)
  }
}

function movesMoney({ kind }: PlannedRequest): boolean {
  return kind !== "total" && kind !== "slow"
}

function isUnknown(answer: Answer): boolean {
  return !("status" in answer) || answer.status >= 500
}

function send(http: HttpClient, planned: PlannedRequest, order: PlannedRequest["order"]): Promise<Answer> {
  const { kind, isSerializable, abortAfterMs } = planned
  if (kind === "total") return http.ask({ method: "GET", path: "/total", abortAfterMs })
  if (kind === "slow") return http.ask({ method: "GET", path: "/slow?ms=300", abortAfterMs })
  const body = kind === "malformed" ? { ...order, amount: "much" } : order
  return http.ask({
    method: "POST",
    path: isSerializable ? "/transfers/serializable" : "/transfers",
    body,
    abortAfterMs,
  })
}
