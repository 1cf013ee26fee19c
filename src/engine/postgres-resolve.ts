import { setTimeout as sleep } from "node:timers/promises"
import type { Outcome } from "./connection"

/** The part of a pg client that is used. */
interface Client {
  connect(): Promise<unknown>
  query(text: string, values: unknown[]): Promise<{ rows: { status: string | null; era: string | null }[] }>
  end(): Promise<void>
  on(event: "error", listener: () => void): void
  readonly connection?: { readonly stream?: { destroy(): void } }
}

export type ClientConstructor = new (options: object) => Client

/**
 * Within one era an id is given to one transaction. After a promotion that lost work ids are used again, on another timeline;
 * after a crash, too, those of transactions of which nothing had been written to disk, and on the same timeline. Then all
 * statistics are lost, and the time of their last reset is that of the crash; a restart keeps them.
 * @see PostgreSQL 18 `access/transam/xlog.c`, `pgstat_discard_stats()` in `StartupXLOG()`
 */
const ERA =
  "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || " +
  "'/' || coalesce(extract(epoch from pg_stat_get_bgwriter_stat_reset_time()), 0)"

/** Which transaction this is: its id, which it is given now if it has none yet, and the era of that id. */
export const IDENTIFICATION = `SELECT txid_current() || ' ' || ${ERA}`

const QUESTION = `SELECT txid_status($1::bigint) AS status, CASE WHEN pg_is_in_recovery() THEN NULL ELSE ${ERA} END AS era`

const FIRST_PAUSE_MS = 5
const LONGEST_PAUSE_MS = 200

/**
 * Asks the server, over connections of its own, what became of a transaction. As long as the server has not noticed that the
 * connection is cut it is "in progress", so that the question is put again, in growing pauses.
 * @returns "unknown" where the server cannot tell in time, is a standby, or is in another era. Never rejects.
 * @see PostgreSQL 18 manual, 9.28.9 "Transaction ID and Snapshot Information Functions"
 */
export async function resolveCommit(connect: () => Client, identity: string, timeoutMs: number): Promise<Outcome> {
  const [id, era] = identity.split(" ")
  const deadline = performance.now() + timeoutMs
  for (let pauseMs = FIRST_PAUSE_MS; performance.now() < deadline; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const answer = await askOnce(connect(), id, deadline - performance.now())
    if (answer) {
      if (answer.era !== era) return "unknown"
      if (answer.status === "committed") return "committed"
      if (answer.status === "aborted") return "rolled back"
      // Too old to be told.
      if (answer.status === null) return "unknown"
    }
    await sleep(pauseMs)
  }
  return "unknown"
}

/** @returns undefined where the server could not be asked */
async function askOnce(
  client: Client,
  id: string | undefined,
  timeoutMs: number,
): Promise<{ status: string | null; era: string | null } | undefined> {
  client.on("error", () => undefined)
  const timer = setTimeout(() => client.connection?.stream?.destroy(), Math.max(1, timeoutMs))
  try {
    await client.connect()
    const { rows } = await client.query(QUESTION, [id])
    return rows[0]
  } catch {
    // It is asked again until the time is over.
    return undefined
  } finally {
    clearTimeout(timer)
    client.end().catch(() => undefined)
  }
}
