import { setTimeout as sleep } from "node:timers/promises"
import { IsBoolean, IsIn, IsInt, Matches, Min } from "class-validator"
import type { Context } from "koa"
import { Body, Ctx, Get, JsonController, Post, QueryParam } from "routing-controllers"
import { Session, SessionMaker } from "routing-controllers-typeorm"
import { Container } from "typedi"
import { type BankState, type Deed, POOL_SIZE, type TransferOrder } from "./bank"
import { Account } from "./entities"
import { reported, unforeseen, unknowns } from "./reported"
import { counts, transfer } from "./transfer"

const DEEDS = ["none", "parallel", "savepoint", "throw", "refuse", "status", "swallow", "forget", "deferred"]

class Order implements TransferOrder {
  @Matches(/^[\w-]{1,40}$/) readonly id!: string
  @IsInt() readonly from!: number
  @IsInt() readonly to!: number
  @IsInt() @Min(1) readonly amount!: number
  @IsBoolean() readonly locksInOrder!: boolean
  @IsInt() @Min(0) readonly pauseMs!: number
  @IsIn(DEEDS) readonly deed!: Deed
}

/** SQLite has no row locks; there a writing session holds the one write lock from its begin. */
function hasRowLocks(db: Session): boolean {
  return db.connection.options.type !== "better-sqlite3"
}

@JsonController()
export class BankController {
  @Post("/transfers")
  transfer(@Session() db: Session, @Body() order: Order, @Ctx() ctx: Context): Promise<object> {
    return transfer(db, order, ctx, hasRowLocks(db))
  }

  @Post("/transfers/serializable")
  transferSerializable(
    @Session({ isolation: "SERIALIZABLE" }) db: Session,
    @Body() order: Order,
    @Ctx() ctx: Context,
  ): Promise<object> {
    return transfer(db, order, ctx, false)
  }

  @Get("/total")
  async total(@Session() db: Session): Promise<object> {
    return { total: (await db.sum(Account, "balance")) ?? 0 }
  }

  /** A statement that takes long in the database, where that can wait; on SQLite the session waits. */
  @Get("/slow")
  async slow(@Session() db: Session, @QueryParam("ms") ms: number): Promise<object> {
    return hold(db, ms)
  }

  @Post("/slow")
  async slowWrite(@Session() db: Session, @QueryParam("ms") ms: number): Promise<object> {
    return hold(db, ms)
  }
}

async function hold(db: Session, ms: number): Promise<object> {
  const { type } = db.connection.options
  if (type === "postgres") await db.query("SELECT pg_sleep($1)", [ms / 1000])
  else if (type === "mysql") await db.query("SELECT SLEEP(?)", [ms / 1000])
  else {
    await db.query("SELECT 1")
    await sleep(ms)
  }
  return { ms }
}

/** For the audit: nothing here uses a session but `/together`. */
@JsonController()
export class StateController {
  #together: (() => void)[] = []

  @Get("/nothing")
  nothing(): object {
    return {}
  }

  @Get("/state")
  state(): BankState {
    const { open, active, waiting, pool, committed, rolledBack, failed } = Container.get(SessionMaker).stats()
    return {
      stats: { open, active, waiting },
      pool,
      committed,
      rolledBack,
      failed,
      ...counts,
      reported,
      unknowns,
      unforeseen,
    }
  }

  /** Bytes in use after garbage collection. */
  @Get("/heap")
  async heap(): Promise<object> {
    for (let round = 0; round < 3; round++) {
      globalThis.gc?.()
      // What was finalised in one round frees more in the next.
      await sleep(20)
    }
    return { heapUsed: process.memoryUsage().heapUsed }
  }

  /** Answers when the pool's whole size of sessions hold a connection at the same moment. */
  @Get("/together")
  async together(@Session() db: Session): Promise<object> {
    await db.query("SELECT 1")
    await new Promise<void>((resolve) => {
      this.#together.push(resolve)
      if (this.#together.length === POOL_SIZE) for (const go of this.#together.splice(0)) go()
    })
    return {}
  }
}
