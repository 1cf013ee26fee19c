import { expect } from "chai"
import { type Linked, LinkedList } from "../../src/engine/linked-list"

class Item implements Linked {
  previous: this | undefined = undefined
  following: this | undefined = undefined

  constructor(readonly name: string) {}
}

describe("LinkedList", () => {
  const names = (list: LinkedList<Item>) => list.all().map(({ name }) => name)

  it("keeps the order, whichever is taken out, and lets go of it", () => {
    for (const [index, left] of [
      [0, ["b", "c"]],
      [1, ["a", "c"]],
      [2, ["a", "b"]],
    ] as const) {
      const list = new LinkedList<Item>()
      const items = ["a", "b", "c"].map((name) => new Item(name))
      for (const item of items) list.push(item)
      const taken = items[index] as Item
      list.remove(taken)
      expect(names(list)).to.deep.equal(left)
      expect([taken.previous, taken.following]).to.deep.equal([undefined, undefined])
      list.push(new Item("d"))
      expect(names(list)).to.deep.equal([...left, "d"])
      expect([list.size, list.first?.name]).to.deep.equal([3, left[0]])
    }
  })

  it("is empty again when the last has gone", () => {
    const list = new LinkedList<Item>()
    const only = new Item("only")
    list.push(only)
    list.remove(only)
    expect([list.size, list.first, list.all()]).to.deep.equal([0, undefined, []])
  })
})
