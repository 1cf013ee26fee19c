import { expect } from "chai"
import Koa from "koa"
import { Get, JsonController, useKoaServer as useBareKoaServer } from "routing-controllers"
import { Session } from "../../src/decorators/session"
import { SessionOptionsError, SessionScopeError } from "../../src/errors"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { listen } from "../support/http"
import { collectKoaErrors } from "../support/koa-errors"
import { JsonActions } from "../support/session-app"

@JsonController("/conflict")
class ConflictingOptions {
  @Get("/")
  conflict(@Session() first: Session, @Session({ readOnly: true }) second: Session): unknown {
    return [first, second]
  }
}

describe("@Session()", () => {
  it("refuses two with different options for one maker, when the server is built", () => {
    expect(() => useKoaServer(new Koa(), { controllers: [ConflictingOptions] }))
      .to.throw(SessionOptionsError, "ConflictingOptions.conflict")
      .with.property("code", "ERR_SESSION_OPTIONS")
  })

  it("refuses unknown options and those out of range, where it is written", () => {
    expect(() => Session({ isolaton: "SERIALIZABLE" } as never)({}, "list", 0)).to.throw(
      SessionOptionsError,
      'option "isolaton" is unknown',
    )
    expect(() => Session({ retries: -1 })({}, "list", 0)).to.throw(SessionOptionsError, "retries")
  })

  it("fails with a SessionScopeError that says what to add, where sessions() is missing", async () => {
    const app = new Koa()
    const errors = collectKoaErrors(app)
    useBareKoaServer(app, { controllers: [JsonActions], defaultErrorHandler: false })
    const http = await listen(app)
    const reply = await http.get("/json")
    await http.close()
    expect([reply.status, reply.text]).to.deep.equal([500, "Internal Server Error"])
    expect(errors.errors()[0])
      .to.be.instanceOf(SessionScopeError)
      .with.property("message")
      .that.includes("app.use(sessions())")
  })
})
