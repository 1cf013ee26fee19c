import { inspect } from "node:util"
import { expect } from "chai"
import { HttpError, NotFoundError } from "routing-controllers"
import { EntityNotFoundError, QueryFailedError, TypeORMError } from "typeorm"
import {
  AcquireTimeoutError,
  DatabaseUnavailableError,
  SessionClosedError,
  SessionMakerClosedError,
  TransactionAbortedError,
} from "../../src/errors"
import { isMappedError, toHttpError } from "../../src/koa/http-errors"

const failed = (code: string) =>
  new QueryFailedError("INSERT secret", ["secret"], Object.assign(new Error("secret"), { code, detail: "secret" }))

const table: readonly [string, unknown, number][] = [
  ["EntityNotFoundError", new EntityNotFoundError("User", { id: "secret" }), 404],
  ...[
    "23505",
    "23P01",
    "23503",
    "23001",
    "SQLITE_CONSTRAINT_UNIQUE",
    "SQLITE_CONSTRAINT_FOREIGNKEY",
    "ER_DUP_ENTRY",
  ].map((code): [string, unknown, number] => [code, failed(code), 409]),
  ...["22P02", "22001", "22003", "23502", "23514", "SQLITE_CONSTRAINT_NOTNULL", "ER_DATA_TOO_LONG"].map(
    (code): [string, unknown, number] => [code, failed(code), 400],
  ),
  ...["40001", "40P01", "55P03", "57014", "57P01", "53300", "SQLITE_BUSY", "ER_LOCK_DEADLOCK", "ECONNRESET"].map(
    (code): [string, unknown, number] => [code, failed(code), 503],
  ),
  ...["42P01", "42601", "25P02", "SQLITE_ERROR", "ER_NO_SUCH_TABLE", "XX000"].map((code): [string, unknown, number] => [
    code,
    failed(code),
    500,
  ]),
  ["AcquireTimeoutError", new AcquireTimeoutError("secret"), 503],
  ["DatabaseUnavailableError", new DatabaseUnavailableError("secret"), 503],
  ["SessionMakerClosedError", new SessionMakerClosedError("secret"), 503],
  ["SessionClosedError", new SessionClosedError("secret"), 500],
  ["TransactionAbortedError", new TransactionAbortedError("secret"), 500],
  ["TypeORMError", new TypeORMError("secret"), 500],
]

describe("toHttpError()", () => {
  for (const [title, error, status] of table) {
    it(`gives ${status} for ${title}, with the original as its cause and nothing of it to see`, () => {
      const http = toHttpError(error) as HttpError & { headers?: Record<string, string> }
      expect(http).to.be.instanceOf(HttpError).and.include({ httpCode: status, status })
      expect(http.cause).to.equal(error)
      expect(http.headers).to.deep.equal(status === 503 ? { "Retry-After": "1" } : undefined)
      expect(inspect({ ...http, message: http.message, name: http.name })).to.not.include("secret")
      expect(isMappedError(http)).to.equal(true)
      expect(toHttpError(http)).to.equal(http)
    })
  }

  it("leaves what is the application's own", () => {
    for (const own of [new Error("own"), new NotFoundError("own"), "own", undefined, null, { code: "23505" }]) {
      expect(toHttpError(own)).to.equal(undefined)
      expect(isMappedError(own)).to.equal(false)
    }
  })

  it("keeps the original's stack in that of a 500, for the application's log", () => {
    expect(toHttpError(failed("42P01"))?.stack).to.include("caused by: QueryFailedError: secret")
  })
})
