import { expect } from "chai"
import { Container } from "typedi"
import { SessionMaker } from "../../src/session/session-maker"
import { resetContainer } from "../../src/testing"

describe("resetContainer()", () => {
  it("resolves when the dropped maker has drained and closed", async () => {
    process.env.DATABASE_URI = "sqlite://"
    Container.set({ id: SessionMaker, factory: () => new SessionMaker() })
    const maker = Container.get(SessionMaker)
    const session = await maker.open()
    const dataSource = await maker.dataSource()
    let isReset = false
    const reset = resetContainer().then(() => {
      isReset = true
    })
    await session.query("SELECT 1")
    expect([isReset, dataSource.isInitialized]).to.deep.equal([false, true])
    await session.close()
    await reset
    expect(dataSource.isInitialized).to.equal(false)
    await expect(maker.open()).to.be.rejected.and.eventually.include({ code: "ERR_SESSION_MAKER_CLOSED" })
  })

  it("may be called where nothing is registered, and twice", async () => {
    await resetContainer()
    await Promise.all([resetContainer(), resetContainer()])
  })
})
