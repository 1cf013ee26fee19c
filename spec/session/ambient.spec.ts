import { setImmediate as turn } from "node:timers/promises"
import { expect } from "chai"
import { CountedStorage } from "../../src/session/counted-storage"
import { Deferred } from "../support/deferred"

describe("CountedStorage", () => {
  it("gives each of what runs at the same time its own value, and nothing outside", async () => {
    const storage = new CountedStorage<number>()
    const read = async () => {
      await turn()
      return storage.get()
    }
    expect(await Promise.all([storage.run(1, read), storage.run(2, read), read()])).to.deep.equal([1, 2, undefined])
    expect(await read()).to.equal(undefined)
  })

  it("gives the inner value inside, and the outer one again after it", async () => {
    const storage = new CountedStorage<string>()
    await storage.run("outer", async () => {
      expect(await storage.run("inner", async () => storage.get())).to.equal("inner")
      expect(storage.get()).to.equal("outer")
    })
  })

  it("gives up its value where the function throws at once", async () => {
    const storage = new CountedStorage<number>()
    await expect(
      storage.run(1, () => {
        throw new TypeError("at once")
      }),
    ).to.be.rejectedWith(TypeError)
    expect(storage.get()).to.equal(undefined)
  })

  it("is off once nobody runs in it, and after keep() goes on giving what was left behind its value", async () => {
    for (const isKept of [false, true]) {
      const storage = new CountedStorage<number>()
      if (isKept) storage.keep()
      const goOn = new Deferred()
      let late: Promise<number | undefined> | undefined
      await storage.run(1, async () => {
        late = goOn.promise.then(() => storage.get())
      })
      goOn.resolve()
      expect(await late).to.equal(isKept ? 1 : undefined)
    }
  })

  it("never gives what was left behind the value of another run", async () => {
    const storage = new CountedStorage<number>()
    const goOn = new Deferred()
    let late: Promise<number | undefined> | undefined
    await storage.run(1, async () => {
      late = goOn.promise.then(() => storage.get())
    })
    await storage.run(2, async () => {
      goOn.resolve()
      expect(await late).to.be.oneOf([1, undefined])
    })
  })
})
