import { expect } from "chai"
import type { AcquireRequest } from "../../src/engine/connection"
import { Slots } from "../../src/engine/slots"
import { AcquireTimeoutError } from "../../src/errors"

function request(name: string, timeoutMs = 1_000): AcquireRequest {
  const limits = { timeoutMs, answerTimeoutMs: 1_000, statementTimeoutMs: undefined }
  return { owner: { describe: () => name }, ...limits, onReplica: false, asWriter: false, wait: undefined }
}

describe("Slots", () => {
  let slots: Slots
  let holder: AcquireRequest

  beforeEach(() => {
    slots = new Slots(1, "connection")
    holder = request("GET /holder")
    expect(slots.tryAcquire(holder.owner)).to.equal(true)
  })

  it("gives places out first come, first served", async () => {
    const order: string[] = []
    const waiters = ["a", "b", "c"].map((name) => request(name))
    const acquired = waiters.map(async (waiter) => {
      await slots.acquire(waiter)
      order.push(waiter.owner.describe())
      slots.release(waiter.owner)
    })
    expect(slots.waiting).to.equal(3)
    slots.release(holder.owner)
    expect(slots.tryAcquire(holder.owner), "nobody overtakes").to.equal(false)
    await Promise.all(acquired)
    expect(order).to.deep.equal(["a", "b", "c"])
    expect(slots.waiting).to.equal(0)
    expect(slots.tryAcquire(holder.owner)).to.equal(true)
  })

  it("names who holds the places when the time is over, and forgets who waited", async () => {
    const many = new Slots(5, "connection")
    for (const name of ["a", "b", "c", "d", "e"]) many.tryAcquire(request(name).owner)
    await expect(many.acquire(request("GET /late", 5))).to.be.rejectedWith(
      AcquireTimeoutError,
      /^GET \/late got no connection within 5 ms: all 5 are held by a; b; c; and 2 more\. /,
    )
    expect(many.waiting).to.equal(0)
  })

  it("lets a waiter leave, who then is passed over", async () => {
    const quitter = request("quitter")
    const next = request("next")
    const left = slots.acquire(quitter)
    const acquired = slots.acquire(next)
    const reason = new Error("closed")
    quitter.wait?.cancel(reason)
    await expect(left).to.be.rejectedWith(reason)
    expect(quitter.wait).to.equal(undefined)
    slots.release(holder.owner)
    await acquired
    expect(next.wait, "nothing to leave any more").to.equal(undefined)
    slots.release(next.owner)
    expect(slots.tryAcquire(holder.owner)).to.equal(true)
  })

  it("counts the places of one owner, who may have asked again before the first came back", async () => {
    const two = new Slots(2, "connection")
    expect([two.tryAcquire(holder.owner), two.tryAcquire(holder.owner)]).to.deep.equal([true, true])
    expect(two.tryAcquire(request("other").owner)).to.equal(false)
    const waiting = two.acquire(request("other"))
    two.release(holder.owner)
    await waiting
    expect(two.tryAcquire(request("third").owner)).to.equal(false)
    two.release(holder.owner)
    expect(two.tryAcquire(request("third").owner)).to.equal(true)
  })

  it("ignores the release of what is not held", () => {
    slots.release(request("stranger").owner)
    expect(slots.tryAcquire(request("other").owner)).to.equal(false)
    slots.release(holder.owner)
    slots.release(holder.owner)
    expect(slots.tryAcquire(request("a").owner)).to.equal(true)
    expect(slots.tryAcquire(request("b").owner)).to.equal(false)
  })
})
