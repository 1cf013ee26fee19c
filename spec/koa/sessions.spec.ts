import { expect } from "chai"
import Koa from "koa"
import { SessionOptionsError } from "../../src/errors"
import { sessions } from "../../src/koa/sessions"
import { useKoaServer } from "../../src/koa/use-koa-server"

describe("sessions()", () => {
  it("refuses unknown options and those of the wrong kind, at once", () => {
    expect(() => sessions({ comit: "auto" } as never)).to.throw(SessionOptionsError, 'option "comit" is unknown')
    expect(() => sessions({ mapErrors: 1 } as never)).to.throw(SessionOptionsError, "mapErrors")
    expect(() => sessions({ rollbackWhen: true } as never)).to.throw(SessionOptionsError, "rollbackWhen")
    expect(() => useKoaServer(new Koa(), { controllers: [], sessions: { commit: "never" } as never })).to.throw(
      SessionOptionsError,
      "commit",
    )
  })
})
