import { createHash } from "node:crypto"
import { ACCOUNTS, type Deed, OPENING_BALANCE, type TransferOrder } from "./bank"
import { Random } from "./random"

export type BankDatabase = "sqlite" | "postgres" | "mysql"

/** What a client asks for. Beside the deeds of the handler: what the client or the data does wrong. */
export type RequestKind =
  | Deed
  /** more than the account has: 400 by the check constraint */
  | "overdraft"
  /** an account that is not there: 404 */
  | "unknown"
  /** a body that is refused before the handler: 400 */
  | "malformed"
  /** the id of a transfer that was acknowledged: 409 */
  | "duplicate"
  /** the sum of all accounts, which is the same at all times */
  | "total"
  /** a read that takes long */
  | "slow"

/** One request of one client, known before the run begins. */
export interface PlannedRequest {
  readonly kind: RequestKind
  readonly order: TransferOrder
  readonly isSerializable: boolean
  /** ms after which the client goes away; `undefined` where it stays */
  readonly abortAfterMs: number | undefined
  /** whether the client asks again, with the same id, where it does not know what became of the request */
  readonly asksAgain: boolean
}

export type FaultKind =
  | "kill a backend"
  | "kill all backends"
  | "cancel a statement"
  | "lock accounts"
  | "exhaust the pool"
  | "restart the server"
  | "crash the server"
  /** no packet passes for a while, on connections of then and on new ones */
  | "silence"
  /** no packet ever passes again on the connections of then */
  | "abandon connections"
  /** COMMIT reaches the server, and the connection is reset in the place of its answer */
  | "cut answers to COMMIT"
  /** COMMIT reaches the server, and nothing more is heard of the connection */
  | "lose answers to COMMIT"
  /** COMMIT never reaches the server, and the connection is reset */
  | "cut before COMMIT"

export interface PlannedFault {
  /** ms since the begin of the run */
  readonly atMs: number
  readonly kind: FaultKind
  /** 0 to 1: which of those that are there */
  readonly choice: number
  /** ms, for what lasts */
  readonly lastsMs: number
}

const REQUESTS: Readonly<Partial<Record<RequestKind, number>>> = {
  none: 520,
  parallel: 60,
  savepoint: 50,
  throw: 25,
  refuse: 25,
  status: 20,
  swallow: 20,
  forget: 20,
  overdraft: 30,
  unknown: 10,
  malformed: 10,
  duplicate: 40,
  total: 140,
  slow: 10,
}

/** InnoDB looks at no constraint as late as at the COMMIT. */
const DEFERRED: Readonly<Record<BankDatabase, number>> = { sqlite: 20, postgres: 20, mysql: 0 }

/** Few enough that their transfers meet. */
const BUSY_ACCOUNTS = 6
const BUSY = 0.3
const ABORTED = 0.04
const PAUSED = 0.1
const SERIALIZABLE = 0.1
/** The others lock the paying account first, so that some of them meet in a deadlock. */
const LOCKS_IN_ORDER = 0.7

const NETWORK: Readonly<Partial<Record<FaultKind, number>>> = {
  silence: 2,
  "abandon connections": 2,
  "cut answers to COMMIT": 4,
  "lose answers to COMMIT": 2,
  "cut before COMMIT": 2,
}

/** ms; longer than the application's patience at times, and shorter at others */
const SILENCE_MS = [1000, 4000] as const

const FAULTS: Readonly<Record<BankDatabase, Readonly<Partial<Record<FaultKind, number>>>>> = {
  sqlite: { "lock accounts": 5, "exhaust the pool": 3 },
  postgres: {
    "kill a backend": 8,
    "kill all backends": 1,
    "cancel a statement": 4,
    "lock accounts": 2,
    "exhaust the pool": 3,
    "restart the server": 1,
    "crash the server": 1,
    ...NETWORK,
  },
  mysql: {
    "kill a backend": 8,
    "kill all backends": 1,
    "cancel a statement": 4,
    "lock accounts": 2,
    "exhaust the pool": 3,
    ...NETWORK,
  },
}

/** @param number of the request among those of the client */
export function planRequest(database: BankDatabase, seed: number, client: number, number: number): PlannedRequest {
  const random = new Random(`${seed}/${client}/${number}`)
  const kind = random.pick<RequestKind>({ ...REQUESTS, deferred: DEFERRED[database] })
  const accounts = random.chance(BUSY) ? BUSY_ACCOUNTS : ACCOUNTS
  const from = random.integer(1, accounts)
  const to = ((from + random.integer(0, accounts - 2)) % accounts) + 1
  const amount = random.integer(1, OPENING_BALANCE / 20)
  const pauseMs = random.chance(PAUSED) ? random.integer(1, 30) : 0
  return {
    kind,
    order: {
      id: `${client}-${number}`,
      from,
      to: kind === "unknown" ? ACCOUNTS + 1 : to,
      amount: kind === "overdraft" ? amount + OPENING_BALANCE * ACCOUNTS : amount,
      locksInOrder: random.chance(LOCKS_IN_ORDER),
      pauseMs,
      deed: isDeed(kind) ? kind : "none",
    },
    isSerializable: random.chance(SERIALIZABLE),
    abortAfterMs: random.chance(ABORTED) ? random.integer(0, 40) : undefined,
    asksAgain: random.chance(0.5),
  }
}

/** ms between two faults. Those of SQLite stop all writers, so there must be time in between. */
const GAP_MS: Readonly<Record<BankDatabase, readonly [number, number]>> = {
  sqlite: [1000, 4000],
  postgres: [300, 1500],
  mysql: [300, 1500],
}

/** Something every second or so; what the database can suffer comes at least once, so that a short run shows it, too. */
export function planFaults(database: BankDatabase, seed: number, seconds: number): PlannedFault[] {
  const random = new Random(`${seed}/faults`)
  const weights = FAULTS[database]
  const once = Object.keys(weights) as FaultKind[]
  const faults: PlannedFault[] = []
  const endMs = seconds * 1000 - 1500
  for (let atMs = 500; atMs < endMs; atMs += random.integer(...GAP_MS[database])) {
    const kind =
      once.length > 0 && random.chance(0.7) ? once.splice(random.integer(0, once.length - 1), 1)[0] : undefined
    const picked = kind ?? random.pick<FaultKind>(weights)
    const range: readonly [number, number] =
      picked === "silence" || picked === "abandon connections" ? SILENCE_MS : [200, 1500]
    faults.push({ atMs, kind: picked, choice: random.next(), lastsMs: random.integer(...range) })
  }
  return faults
}

/** Tells two plans apart: the faults, and the first thousand requests of each client. */
export function digestOf(database: BankDatabase, seed: number, seconds: number, clients: number): string {
  const hash = createHash("sha256").update(JSON.stringify(planFaults(database, seed, seconds)))
  for (let client = 0; client < clients; client++) {
    for (let number = 0; number < 1000; number++) {
      hash.update(JSON.stringify(planRequest(database, seed, client, number)))
    }
  }
  return hash.digest("hex").slice(0, 12)
}

const DEEDS: Readonly<Record<Deed, true>> = {
  none: true,
  parallel: true,
  savepoint: true,
  throw: true,
  refuse: true,
  status: true,
  swallow: true,
  forget: true,
  deferred: true,
}

function isDeed(kind: RequestKind): kind is Deed {
  return kind in DEEDS
}
