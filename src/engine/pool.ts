import { TypeORMError } from "typeorm"
import { AcquireTimeoutError, DatabaseUnavailableError, SessionError } from "../errors"
import type { AcquireRequest, ConnectionOwner } from "./connection"
import { codeOf, failureKind } from "./failure-kind"
import type { Slots } from "./slots"

export interface PoolAccess<Raw, Pooled extends PooledConnection> {
  /** asks the driver's pool; cannot be called off */
  open(): Promise<Raw>
  /** whether `open()` has a connection at hand, so that nobody need watch how long it takes */
  hasIdle(): boolean
  wrap(raw: Raw): Pooled
  /** gives back unused what came too late */
  discard(raw: Raw): void
  /** where the database is, without secrets */
  describe(): string
}

/** What a connection of a driver's pool keeps of the place that it takes in front of it. */
export abstract class PooledConnection {
  isAlive = true
  hasBegun = false
  #owner: ConnectionOwner | undefined
  #slots: PoolSlots | undefined

  lend(owner: ConnectionOwner, slots: PoolSlots): this {
    this.#owner = owner
    this.#slots = slots
    this.hasBegun = false
    return this
  }

  /** Goes to the next session that waits for one, or else back to the driver's pool; with `broken`, it is ended instead. */
  release(broken: boolean): void {
    const [owner, slots] = [this.#owner, this.#slots]
    if (owner === undefined || slots === undefined) return
    this.#owner = undefined
    const isUsable = !broken && this.isAlive
    if (isUsable && this.canPassOn(slots) && slots.handOver(owner, this)) return
    this.giveBack(!isUsable)
    slots.release(owner)
  }

  /** Whether it need not go back to the driver's pool, which may have rules for it, or others that wait. */
  protected abstract canPassOn(slots: PoolSlots): boolean

  /** To the driver's pool; with `isBroken`, it is ended instead. */
  protected abstract giveBack(isBroken: boolean): void
}

export type PoolSlots = Slots<PooledConnection>

/**
 * Takes a slot and then a connection of the driver's pool, both within one deadline.
 * The driver's pool cannot be told to forget a caller, so one that was given up on is handed back when it comes; its slot is
 * held until then, which keeps the numbers true.
 */
export async function acquireFromPool<Raw, Pooled extends PooledConnection>(
  request: AcquireRequest,
  slots: PoolSlots,
  access: PoolAccess<Raw, Pooled>,
): Promise<Pooled> {
  const { owner } = request
  let remainingMs = request.timeoutMs
  if (!slots.tryAcquire(owner)) {
    const startedAt = performance.now()
    const handedOver = await slots.acquire(request)
    // The slots of one pool hold its connections only.
    if (handedOver) return handedOver.lend(owner, slots) as Pooled
    remainingMs = Math.max(1, remainingMs - (performance.now() - startedAt))
  }
  try {
    if (access.hasIdle()) return access.wrap(await access.open()).lend(owner, slots)
    return access.wrap(await openInTime(remainingMs, request, access, slots)).lend(owner, slots)
  } catch (error) {
    if (error instanceof GivenUp) throw error.reason
    slots.release(owner)
    throw connectFailure(access.describe(), error)
  }
}

async function openInTime<Raw>(
  timeoutMs: number,
  request: AcquireRequest,
  access: PoolAccess<Raw, PooledConnection>,
  slots: PoolSlots,
): Promise<Raw> {
  const opening = access.open()
  try {
    return await withDeadline(opening, timeoutMs, request, access)
  } catch (error) {
    if (error instanceof GivenUp) {
      const done = () => slots.release(request.owner)
      opening.then((raw) => access.discard(raw)).then(done, done)
    }
    throw error
  }
}

class GivenUp {
  constructor(readonly reason: Error) {}
}

function withDeadline<Raw>(
  opening: Promise<Raw>,
  timeoutMs: number,
  request: AcquireRequest,
  access: PoolAccess<Raw, PooledConnection>,
): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      clearTimeout(timer)
      request.wait = undefined
    }
    const giveUp = (reason: Error) => {
      settle()
      reject(new GivenUp(reason))
    }
    const timer = setTimeout(() => {
      giveUp(
        new AcquireTimeoutError(
          `${request.owner.describe()} got no connection to ${access.describe()} within ${request.timeoutMs} ms: ` +
            "the database did not answer, or code outside of sessions holds the pool. " +
            "Check that the database is up and reachable, or raise acquireTimeoutMs.",
        ),
      )
    }, timeoutMs)
    request.wait = { cancel: giveUp }
    opening.then(
      (raw) => {
        settle()
        resolve(raw)
      },
      (error: unknown) => {
        settle()
        reject(error)
      },
    )
  })
}

/**
 * The error for a connect that failed: whatever a driver, or Node, throws there names hosts and paths, and is no error of the
 * application. Mistakes of the program, such as a `TypeError`, stay as they are.
 * @param target where the database is, without secrets
 */
export function connectFailure(target: string, error: unknown): unknown {
  if (failureKind(error) === "unavailable") return unavailable(target, error)
  if (error instanceof SessionError || error instanceof TypeORMError) return error
  const isMistake = error instanceof TypeError || error instanceof ReferenceError || error instanceof SyntaxError
  return isMistake && codeOf(error) === undefined ? error : unavailable(target, error)
}

/** @param target where the database is, without secrets */
export function unavailable(target: string, cause: unknown): DatabaseUnavailableError {
  const code = codeOf(cause)
  const detail =
    REMEDIES[code ?? ""] ?? REMEDIES[code?.slice(0, 2) ?? ""] ?? "Check that it is up and accepts connections."
  return new DatabaseUnavailableError(`No connection to ${target}${code ? ` (${code})` : ""}. ${detail}`, { cause })
}

const REMEDIES: Readonly<Record<string, string>> = {
  ECONNREFUSED: "Nothing listens there: start the database, or correct host and port in the database URI.",
  ENOTFOUND: "The host name is unknown: correct it in the database URI.",
  EAI_AGAIN: "The host name could not be looked up: check the name and the network.",
  ETIMEDOUT: "The host did not answer: check host, port and firewall.",
  "28": "The server refused user or password: correct them in the database URI.",
  ER_ACCESS_DENIED_ERROR: "The server refused user or password: correct them in the database URI.",
  "3D000": "That database does not exist: create it, or correct its name in the database URI.",
  ER_BAD_DB_ERROR: "That database does not exist: create it, or correct its name in the database URI.",
  "53300": "The server has no connection left: lower poolSize, or raise the server's limit.",
  ER_CON_COUNT_ERROR: "The server has no connection left: lower poolSize, or raise the server's limit.",
  "57P03": "The server is starting up or shutting down: try again.",
  EEXIST: "The file cannot be opened: check that its folder exists and is writable.",
  ENOTDIR: "The file cannot be opened: check that its folder exists and is writable.",
  EACCES: "The file cannot be opened: check that its folder exists and is writable.",
  SQLITE_CANTOPEN: "The file cannot be opened: check that its folder exists and is writable.",
}
