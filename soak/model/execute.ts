import type { QueryRunner } from "typeorm"
import type { Session, SessionMaker } from "../../src"
import { Ownership } from "./ownership"
import type { BlockStep, EndStep, HandStep, HookStep, Program, Step } from "./program"
import { send } from "./statements"
import { BlockRecord, type EndRecord, type StatementRecord, type Trace } from "./trace"

/** What a program throws by itself. */
export class PlannedError extends Error {}

/** Where a list of steps runs. */
interface Place {
  /** that the steps may use, the innermost one last */
  readonly variables: readonly Session[]
  /** the block whose code it is */
  readonly block: BlockRecord
  /** the blocks begun by hand that it is in */
  readonly byHand: readonly BlockRecord[]
}

/** Programs that wait for one another end by this. */
const LONGEST_MS = 5_000

/** Runs one program and writes down what happens. */
export class Execution {
  readonly #loose: Promise<unknown>[] = []
  readonly #kept: Session[] = []
  readonly #ownership: Ownership

  constructor(
    private readonly maker: SessionMaker,
    private readonly trace: Trace,
    private readonly kill: () => Promise<void>,
  ) {
    this.#ownership = new Ownership(trace.session)
  }

  /** Never rejects: what the program throws is in the trace. */
  async run(program: Program): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        this.trace.hasHung = true
        resolve()
      }, LONGEST_MS)
    })
    const whole = async () => {
      await (program.opened === "run" ? this.#managed(program) : this.#opened(program))
      for (let done = 0; done < this.#loose.length; done++) await this.#loose[done]
    }
    await Promise.race([whole(), late])
    clearTimeout(timer)
  }

  async #managed({ steps }: Program): Promise<void> {
    const { trace } = this
    let end: EndRecord | undefined
    try {
      await this.maker.run(async (session) => {
        try {
          await this.#start(session, steps)
        } catch (error) {
          trace.thrown = { error }
          throw error
        } finally {
          if (!session.closed)
            end = this.#noteEnd(session, undefined, trace.thrown ? "close" : "commit", [trace.session])
          trace.closingAt = Math.min(trace.closingAt, trace.now())
        }
      })
    } catch (error) {
      trace.rejected = { error }
      if (end && !trace.thrown) end.error = { error }
    }
    trace.closedAt = Math.min(trace.closedAt, trace.now())
    if (end) end.settledAt = trace.now()
  }

  async #opened({ steps }: Program): Promise<void> {
    const { trace } = this
    const session = await this.maker.open()
    try {
      await this.#start(session, steps)
    } catch {
      // Its caller would see it; the session is closed all the same.
    } finally {
      if (!session.closed) await this.#end(session, undefined, "close", [trace.session])
    }
  }

  #start(session: Session, steps: readonly Step[]): Promise<void> {
    this.#ownership.bind(session, this.trace.session)
    return this.#steps(steps, { variables: [session], block: this.trace.session, byHand: [] })
  }

  async #steps(steps: readonly Step[], place: Place): Promise<void> {
    for (const step of steps) {
      const isCaught = step.do === "try" || ("caught" in step && step.caught)
      try {
        await this.#step(step, place)
      } catch (error) {
        if (!isCaught) throw error
      }
    }
  }

  async #step(step: Step, place: Place): Promise<unknown> {
    switch (step.do) {
      case "write":
      case "read":
      case "fail":
      case "raw": {
        const session = this.#variable(step.via, place)
        const record: StatementRecord = {
          step,
          owners: this.#ownersOf(session, place),
          calledAt: this.trace.now(),
          settledAt: Infinity,
        }
        this.trace.statements.push(record)
        return this.#ownership.follow(record, session, () => this.#settle(record, () => send(session, step)))
      }
      case "end": {
        const session = this.#variable(step.via, place)
        return this.#end(session, step, step.verb, this.#ownersOf(session, place))
      }
      case "hook":
        return this.#register(step, place)
      case "throw":
        throw new PlannedError(`thrown by #${step.id}`)
      case "wait":
        for (let tick = 0; tick < step.ticks; tick++) await (step.isLong ? new Promise(setImmediate) : undefined)
        return undefined
      case "kill": {
        this.trace.killedAt = Math.min(this.trace.killedAt, this.trace.now())
        const killed = this.kill()
        this.#loose.push(killed)
        return step.isAwaited ? killed : undefined
      }
      case "block":
        return this.#block(step, place)
      case "hand":
        return this.#hand(step, place)
      case "try":
        return this.#steps(step.body, place)
      case "parallel": {
        const branches = step.branches.map((branch) => this.#steps(branch, place))
        // With `Promise.all` the others go on when one has failed.
        this.#loose.push(...branches.map((branch) => branch.catch(() => undefined)))
        return step.isSettled ? Promise.allSettled(branches) : Promise.all(branches)
      }
      case "loose":
        this.#loose.push(this.#steps(step.body, place).catch(() => undefined))
        return undefined
    }
  }

  async #settle<T>(record: StatementRecord | EndRecord, call: () => Promise<T>): Promise<T> {
    try {
      const result = await call()
      record.settledAt = this.trace.now()
      if (!("verb" in record)) record.result = result
      return result
    } catch (error) {
      record.settledAt = this.trace.now()
      record.error = { error }
      throw error
    }
  }

  async #block(step: BlockStep, place: Place): Promise<void> {
    const { trace } = this
    const session = this.#variable(step.via, place)
    const block = new BlockRecord(step.id, "block", this.#ownersOf(session, place), trace.now())
    trace.blocks.push(block)
    let inner: Session | undefined
    try {
      await session.transaction(async (given) => {
        inner = given
        this.#ownership.bind(given, block)
        try {
          await this.#steps(step.body, { ...place, variables: [...place.variables, given], block })
        } catch (error) {
          block.bodyError = { error }
          throw error
        } finally {
          block.bodyEndedAt = trace.now()
          if (block.bodyError) this.#ownership.doubtByHand(block)
        }
      })
      block.outcome = "released"
    } catch (error) {
      block.outcome = "rolled back"
      block.error = { error }
      throw error
    } finally {
      block.settledAt = trace.now()
      if (block.outcome === "rolled back") this.#ownership.forgetByHand(block)
      if (inner) this.#kept.push(inner)
    }
  }

  async #hand(step: HandStep, place: Place): Promise<void> {
    const { trace } = this
    const session = this.#variable(step.via, place)
    const runner = session.queryRunner as QueryRunner
    const block = new BlockRecord(step.id, "by hand", this.#ownersOf(session, place), trace.now())
    trace.blocks.push(block)
    this.#ownership.beginByHand(session, block)
    if (this.#ownership.enterByHand(session, block, place.byHand)) trace.isEntangled = true
    try {
      await this.#inHand(step, runner, block, { variables: [session], block, byHand: [...place.byHand, block] })
    } finally {
      this.#ownership.leaveByHand(block)
    }
  }

  async #inHand(step: HandStep, runner: QueryRunner, block: BlockRecord, place: Place): Promise<void> {
    try {
      await runner.startTransaction()
    } catch (error) {
      this.#endByHand(block, "rolled back", error)
      throw error
    }
    this.#ownership.assureByHand(block)
    try {
      await this.#steps(step.body, place)
    } catch (error) {
      block.bodyError = { error }
      throw error
    } finally {
      block.bodyEndedAt = this.trace.now()
      if (this.#ownership.hasByHandInside(block)) this.trace.isEntangled = true
      if (step.end === "rollback" || (step.end === "repair" && block.bodyError)) {
        await this.#rollbackByHand(runner, block)
      } else if (step.end !== "open" && !block.bodyError) await this.#commitByHand(runner, block)
    }
  }

  async #commitByHand(runner: QueryRunner, block: BlockRecord): Promise<void> {
    this.#ownership.doubtByHand(block)
    try {
      await runner.commitTransaction()
      this.#endByHand(block, "released")
    } catch (error) {
      block.error = { error }
      // As TypeORM's own code does it.
      await this.#rollbackByHand(runner, block)
      throw error
    }
  }

  async #rollbackByHand(runner: QueryRunner, block: BlockRecord): Promise<void> {
    this.#ownership.doubtByHand(block)
    try {
      await runner.rollbackTransaction()
    } catch {
      // The first error wins, and nothing of the block may stay either way.
    }
    this.#endByHand(block, "rolled back")
  }

  #endByHand(block: BlockRecord, outcome: "released" | "rolled back", error?: unknown): void {
    block.outcome ??= outcome
    block.settledAt = Math.min(block.settledAt, this.trace.now())
    if (error !== undefined) block.error ??= { error }
    this.#ownership.forgetByHand(block)
  }

  async #end(
    session: Session,
    step: EndStep | undefined,
    verb: EndStep["verb"],
    owners: readonly BlockRecord[],
  ): Promise<void> {
    const { trace } = this
    const record = this.#noteEnd(session, step, verb, owners)
    if (verb === "close") trace.closingAt = Math.min(trace.closingAt, record.calledAt)
    try {
      await this.#settle(record, () => session[verb]())
    } finally {
      if (verb === "close") trace.closedAt = Math.min(trace.closedAt, trace.now())
    }
  }

  #noteEnd(
    session: Session,
    step: EndStep | undefined,
    verb: EndStep["verb"],
    owners: readonly BlockRecord[],
  ): EndRecord {
    const wasInTransaction = session.inTransaction
    const record: EndRecord = { step, verb, owners, calledAt: this.trace.now(), settledAt: Infinity, wasInTransaction }
    this.trace.ends.push(record)
    return record
  }

  #ownersOf(session: Session, place: Place): readonly BlockRecord[] {
    if (this.#ownership.isBesideByHand(place.byHand)) this.trace.isEntangled = true
    return this.#ownership.of(session, place.block)
  }

  #register(step: HookStep, place: Place): void {
    const session = this.#variable(step.via, place)
    const owners = this.#ownersOf(session, place)
    const calls: unknown[] = []
    const note = (outcome?: unknown) => {
      calls.push(outcome)
    }
    const calledAt = this.trace.now()
    try {
      if (step.on === "commit") session.afterCommit(() => note())
      else if (step.on === "rollback") session.afterRollback(() => note())
      else if (!afterCompletion(session, note)) return
      this.trace.hooks.push({ step, owners, calledAt, calls, isRefused: false })
    } catch {
      this.trace.hooks.push({ step, owners, calledAt, calls, isRefused: true })
    }
  }

  #variable(via: number, { variables }: Place): Session {
    const own = variables.at(-1) as Session
    if (via < 0) return this.#kept.at(via) ?? own
    return variables.at(-1 - via) ?? (variables[0] as Session)
  }
}

/** @returns false where the session has no such function */
function afterCompletion(session: Session, hook: (outcome: unknown) => void): boolean {
  const { afterCompletion: register } = session as unknown as { afterCompletion?: (fn: typeof hook) => void }
  if (typeof register !== "function") return false
  register.call(session, hook)
  return true
}
