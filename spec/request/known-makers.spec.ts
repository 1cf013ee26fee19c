import { expect } from "chai"
import { Container, Token } from "typedi"
import {
  addKnownMaker,
  arePrepared,
  isKnownMaker,
  preparationFailure,
  prepareMakers,
} from "../../src/request/known-makers"
import { SessionMaker } from "../../src/session/session-maker"
import { Deferred } from "../support/deferred"

const First = new Token<SessionMaker>("first known maker")
const Second = new Token<SessionMaker>("second known maker")

describe("the makers that are prepared before services are built", () => {
  const makers: SessionMaker[] = []

  function set(token: Token<SessionMaker>, configure: () => string | Promise<string>): SessionMaker {
    const maker = new SessionMaker(configure, { entities: [] })
    makers.push(maker)
    Container.set({ id: token, value: maker })
    addKnownMaker(token)
    return maker
  }

  // The one under SessionMaker, which other specs make known, is not what these are about.
  beforeEach(() => {
    const maker = new SessionMaker("sqlite://", { entities: [] })
    makers.push(maker)
    Container.set({ id: SessionMaker, value: maker })
  })
  afterEach(async () => {
    for (const maker of makers.splice(0)) await maker.close()
    for (const token of [First, Second]) Container.set({ id: token, value: new SessionMaker("sqlite://") })
    await prepareMakers()
  })

  it("are prepared at the same time, without a connection", async () => {
    const configured = [new Deferred<string>(), new Deferred<string>()] as const
    const first = set(First, () => configured[0].promise)
    const second = set(Second, () => configured[1].promise)
    expect([isKnownMaker(First), isKnownMaker(new Token("unknown"))]).to.deep.equal([true, false])
    const preparing = prepareMakers()
    expect([arePrepared(), first.isPrepared]).to.deep.equal([false, false])
    configured[1].resolve("sqlite://")
    await second.prepare()
    expect([first.isPrepared, second.isPrepared]).to.deep.equal([false, true])
    configured[0].resolve("sqlite://")
    await preparing
    expect(first.isPrepared).to.equal(true)
    expect(first.stats().open).to.equal(0)
  })

  it("keep the failure of one for whoever asks for it, until it can be prepared", async () => {
    let isBroken = true
    set(First, () => {
      if (isBroken) throw new TypeError("no configuration")
      return "sqlite://"
    })
    const second = set(Second, () => "sqlite://")
    await prepareMakers()
    expect(second.isPrepared).to.equal(true)
    expect(preparationFailure(First)).to.be.instanceOf(TypeError)
    expect(preparationFailure(Second)).to.equal(undefined)
    isBroken = false
    await prepareMakers()
    expect(preparationFailure(First)).to.equal(undefined)
  })

  it("are asked for again where the container has another one", async () => {
    set(First, () => "sqlite://")
    set(Second, () => "sqlite://")
    await prepareMakers()
    const next = set(First, () => "sqlite://")
    expect(arePrepared()).to.equal(false)
    await prepareMakers()
    expect(next.isPrepared).to.equal(true)
  })
})
