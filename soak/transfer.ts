import { setTimeout as sleep } from "node:timers/promises"
import type { Context } from "koa"
import { HttpError } from "routing-controllers"
import type { Session } from "routing-controllers-typeorm"
import { DECOY, type TransferOrder } from "./bank"
import { Account, LedgerEntry } from "./entities"

/** Counted by the application, asked for by the audit. */
export const counts = { hooks: 0, wrongHooks: 0, repeated: 0, completed: {} as Record<string, number> }

const started = new WeakSet<Context>()

/** Moves the money, writes the ledger, and then does what the order asks for besides. */
export async function transfer(db: Session, order: TransferOrder, ctx: Context, lock: boolean): Promise<object> {
  if (started.has(ctx)) counts.repeated++
  started.add(ctx)
  const { from, to } = await readAccounts(db, order, lock)
  if (order.pauseMs > 0) await sleep(order.pauseMs)
  from.balance -= order.amount
  to.balance += order.amount
  db.afterCommit(() => {
    counts.hooks++
  })
  db.afterCompletion((outcome) => {
    counts.completed[outcome] = (counts.completed[outcome] ?? 0) + 1
  })
  if (order.deed === "parallel") await Promise.all([db.save(from), db.save(to), writeLedger(db, order)])
  else {
    await db.save([from, to])
    await writeLedger(db, order)
  }
  await misbehave(db, order, ctx)
  return { id: order.id }
}

async function readAccounts(db: Session, order: TransferOrder, lock: boolean): Promise<{ from: Account; to: Account }> {
  const read = (id: number) =>
    db.findOneOrFail(Account, { where: { id }, ...(lock && { lock: { mode: "pessimistic_write" } }) })
  if (order.locksInOrder && order.to < order.from) {
    const to = await read(order.to)
    return { from: await read(order.from), to }
  }
  return { from: await read(order.from), to: await read(order.to) }
}

async function writeLedger(db: Session, { id, from, to, amount, deed }: TransferOrder): Promise<void> {
  const witness = deed === "deferred" ? -1 : null
  await db.insert(LedgerEntry, { transferId: id, fromId: from, toId: to, amount, witness })
}

async function misbehave(db: Session, order: TransferOrder, ctx: Context): Promise<void> {
  switch (order.deed) {
    case "throw":
      throw new Error("The handler failed after its writes.")
    case "refuse":
      throw new HttpError(422, "Refused after the writes.")
    case "status":
      ctx.status = 402
      return
    case "swallow":
      await db.query("SELECT * FROM no_such_table").catch(() => undefined)
      return
    case "forget":
      // Nobody waits for it, and nobody sees it fail.
      void writeDecoy(db, order).catch(() => undefined)
      throw new Error("The handler failed while a write was under way.")
    case "savepoint":
      await db
        .transaction(async (inner) => {
          await writeDecoy(inner as Session, order)
          throw new CaughtHere()
        })
        .catch((error: unknown) => {
          if (!(error instanceof CaughtHere)) throw error
        })
      return
    default:
  }
}

class CaughtHere extends Error {}

async function writeDecoy(db: Session, { id, from, to, amount }: TransferOrder): Promise<void> {
  db.afterCommit(() => {
    counts.wrongHooks++
  })
  await db.insert(LedgerEntry, { transferId: `${DECOY}${id}`, fromId: from, toId: to, amount, witness: null })
}
