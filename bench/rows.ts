import type { Measurement, Metric } from "./measurements"
import type { VariantName, Work } from "./variants"

/** How far a row is to reach. */
export interface Goal {
  readonly metric: Metric
  /** `ratio` and `difference` are taken to the base; `value` stands alone */
  readonly as: "ratio" | "difference" | "value"
  readonly atMost?: number
  readonly atLeast?: number
}

/** One row of the table: what is done, what it is compared with, and how far it is to reach. */
export interface Row {
  readonly work: string
  readonly against: string
  readonly subject: Measurement
  readonly base?: Measurement
  readonly goals: readonly Goal[]
  /** whether the short form measures it, too */
  readonly isShort: boolean
}

function throughput(variant: VariantName, work: Work): Measurement {
  return { kind: "throughput", variant, work }
}

function latency(variant: VariantName, work: Work): Measurement {
  return { kind: "latency", variant, work }
}

function cpuRatio(atMost: number): Goal {
  return { metric: "cpuMicros", as: "ratio", atMost }
}

const SQLITE_GOALS: readonly Goal[] = [cpuRatio(1)]

export const ROWS_OF_TABLE: readonly Row[] = [
  {
    work: "route without a session",
    against: "the same server without this library",
    subject: throughput("session", "ping"),
    base: throughput("noLibrary", "ping"),
    goals: [cpuRatio(1.02)],
    isShort: true,
  },
  {
    work: "read by primary key",
    against: "by-hand transaction in routing-controllers",
    subject: throughput("session", "read"),
    base: throughput("byHand", "read"),
    goals: [cpuRatio(0.65), { metric: "perSecond", as: "ratio", atLeast: 1.5 }],
    isShort: true,
  },
  {
    work: "read by primary key",
    against: "plain `dataSource.manager`, no transaction",
    subject: throughput("session", "read"),
    base: throughput("plainManager", "read"),
    goals: [cpuRatio(1.08)],
    isShort: true,
  },
  {
    work: "read + insert",
    against: "by-hand transaction",
    subject: throughput("session", "write"),
    base: throughput("byHand", "write"),
    goals: [cpuRatio(0.9), { metric: "perSecond", as: "ratio", atLeast: 1.05 }],
    isShort: true,
  },
  {
    work: "read, 4 ms round trip to the database",
    against: "by hand (3 round trips)",
    subject: latency("session", "read"),
    base: latency("byHand", "read"),
    goals: [{ metric: "latencyMs", as: "ratio", atMost: 0.45 }],
    isShort: true,
  },
  {
    work: "read + insert, 4 ms round trip",
    against: "by hand (4 round trips)",
    subject: latency("session", "write"),
    base: latency("byHand", "write"),
    goals: [{ metric: "latencyMs", as: "ratio", atMost: 0.78 }],
    isShort: false,
  },
  {
    work: "service injected through `RequestContainer`, 20 services deep",
    against: "the same graph as global services",
    subject: throughput("requestServices", "services"),
    base: throughput("globalServices", "services"),
    goals: [{ metric: "cpuMicros", as: "difference", atMost: 15 }],
    isShort: true,
  },
  {
    work: "`ambient: true`, read by primary key",
    against: "`ambient: false`",
    subject: throughput("ambient", "read"),
    base: throughput("session", "read"),
    goals: [cpuRatio(1.1)],
    isShort: true,
  },
  {
    work: "SQLite file, read",
    against: "by-hand better-sqlite3 transactions of TypeORM, one at a time",
    subject: throughput("sqliteSession", "read"),
    base: throughput("sqliteByHand", "read"),
    goals: SQLITE_GOALS,
    isShort: false,
  },
  {
    work: "SQLite file, read + insert",
    against: "by-hand better-sqlite3 transactions of TypeORM, one at a time",
    subject: throughput("sqliteSession", "write"),
    base: throughput("sqliteByHand", "write"),
    goals: SQLITE_GOALS,
    isShort: true,
  },
  {
    work: "cold start to first answer",
    against: "the same application without this library",
    subject: { kind: "coldStart", variant: "session", work: "read" },
    base: { kind: "coldStart", variant: "byHand", work: "read" },
    goals: [{ metric: "coldStartMs", as: "difference", atMost: 30 }],
    isShort: false,
  },
  {
    work: "memory per open idle session",
    against: "-",
    subject: { kind: "retained", variant: "session", work: "ping" },
    goals: [{ metric: "retainedBytes", as: "value", atMost: 2048 }],
    isShort: true,
  },
]

/** Measured for comparison; no row of the table asks for them. */
export const CONTENDERS: readonly Measurement[] = (["read", "write"] as const).flatMap((work) =>
  (["plainManager", "barePg", "typeormTransactional", "nestjsCls"] as const).map((name) => throughput(name, work)),
)
