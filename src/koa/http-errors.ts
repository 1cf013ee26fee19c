import { BadRequestError, HttpError, InternalServerError, NotFoundError } from "routing-controllers"
import { EntityNotFoundError, QueryFailedError, TypeORMError } from "typeorm"
import { type FailureKind, failureKind } from "../engine/failure-kind"
import {
  AcquireTimeoutError,
  DatabaseUnavailableError,
  InvalidGuidError,
  SessionError,
  SessionMakerClosedError,
  TransactionAbortedError,
} from "../errors"

/** Seconds; what is overloaded now may not be in a moment. */
const RETRY_AFTER = "1"

const STATUS: Readonly<Record<FailureKind, number>> = {
  conflict: 409,
  malformed: 400,
  serialization: 503,
  "lock-timeout": 503,
  "statement-timeout": 503,
  unavailable: 503,
  other: 500,
}

const mapped = new WeakSet<Error>()

/** Whether `error` was made by `toHttpError()`, and so holds nothing that the client may not see. */
export function isMappedError(error: unknown): error is HttpError {
  return error instanceof Error && mapped.has(error)
}

/**
 * The HTTP error for an error of the database or of this package; `undefined` for an error of the application, which passes
 * through untouched. What is mapped holds no SQL, parameter, constraint, path or stack of the original, which is its `cause`.
 * Koa's own error handler answers with its status, message and `Retry-After`, too.
 */
export function toHttpError(error: unknown): HttpError | undefined {
  if (isMappedError(error)) return error
  const status = statusOf(error)
  if (status === undefined) return undefined
  const http = build(status)
  const isTemporary = status === 503
  hide(http, "cause", error)
  // The names that Koa looks at (koa 3 `lib/context.js`, onerror).
  hide(http, "status", status)
  hide(http, "expose", status < 500)
  if (isTemporary) hide(http, "headers", { "Retry-After": RETRY_AFTER })
  // What an application logs of an error is its stack; what is sent to the client has none.
  if (error instanceof Error && status >= 500) hide(http, "stack", `${http.stack}\ncaused by: ${error.stack}`)
  mapped.add(http)
  return http
}

function statusOf(error: unknown): number | undefined {
  if (error instanceof EntityNotFoundError) return 404
  if (error instanceof QueryFailedError) return STATUS[failureKind(error.driverError)]
  if (error instanceof InvalidGuidError) return 400
  if (
    error instanceof AcquireTimeoutError ||
    error instanceof DatabaseUnavailableError ||
    error instanceof SessionMakerClosedError
  ) {
    return 503
  }
  // Of statements issued side by side, one that was refused may reject before the one that failed.
  if (error instanceof TransactionAbortedError && statusOf(error.cause) === 503) return 503
  return error instanceof SessionError || error instanceof TypeORMError ? 500 : undefined
}

function build(status: number): HttpError {
  switch (status) {
    case 400:
      return new BadRequestError("The database does not accept a value of this request.")
    case 404:
      return new NotFoundError("Not found.")
    case 409:
      return named("ConflictError", new HttpError(409, "The request conflicts with what is stored."))
    case 503:
      return named("ServiceUnavailableError", new HttpError(503, "The service cannot answer just now. Try again."))
    default:
      return new InternalServerError("Internal server error.")
  }
}

function named(name: string, error: HttpError): HttpError {
  error.name = name
  return error
}

/** routing-controllers sends every enumerable property of an error to the client. */
function hide(error: HttpError, name: string, value: unknown): void {
  Object.defineProperty(error, name, { value, enumerable: false, configurable: true, writable: true })
}
