import { TypeORMError } from "typeorm"
import { AcquireTimeoutError, DatabaseUnavailableError, SessionError } from "../errors"
import type { AcquireRequest, Connection } from "./connection"
import { codeOf, failureKind } from "./failure-kind"
import type { Slots } from "./slots"

export interface PoolAccess<Raw> {
  /** asks the driver's pool; cannot be called off */
  open(): Promise<Raw>
  /** @param done gives the slot back; the connection calls it when it is released */
  wrap(raw: Raw, done: () => void): Connection
  /** gives back unused what came too late */
  discard(raw: Raw): void
  /** where the database is, without secrets */
  describe(): string
}

/**
 * Takes a slot and then a connection of the driver's pool, both within one deadline.
 * The driver's pool cannot be told to forget a caller, so one that was given up on is handed back when it comes; its slot is
 * held until then, which keeps the numbers true.
 */
export async function acquireFromPool<Raw>(
  request: AcquireRequest,
  slots: Slots,
  access: PoolAccess<Raw>,
): Promise<Connection> {
  const { owner } = request
  const startedAt = performance.now()
  if (!slots.tryAcquire(owner)) await slots.acquire(request)
  const done = () => slots.release(owner)
  const remainingMs = Math.max(1, request.timeoutMs - (performance.now() - startedAt))
  // In an async function, so that what it throws at once (a DataSource that is destroyed) is a rejection, too.
  const opening = (async () => access.open())()
  try {
    return access.wrap(await withDeadline(opening, remainingMs, request, access), done)
  } catch (error) {
    if (error instanceof GivenUp) {
      opening.then((raw) => access.discard(raw)).then(done, done)
      throw error.reason
    }
    done()
    throw connectFailure(access.describe(), error)
  }
}

class GivenUp {
  constructor(readonly reason: Error) {}
}

function withDeadline<Raw>(
  opening: Promise<Raw>,
  timeoutMs: number,
  request: AcquireRequest,
  access: PoolAccess<Raw>,
): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      clearTimeout(timer)
      request.cancel = undefined
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
    request.cancel = giveUp
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
