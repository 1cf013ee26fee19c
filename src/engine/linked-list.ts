/** What can be in a list; the list writes both, and nobody else. */
export interface Linked {
  previous: this | undefined
  following: this | undefined
}

/**
 * A list whose links are in its items. Made for what changes with every request: tables that an `Array` used as a queue, a `Set`
 * or a `Map` has outgrown keep what was in them alive in V8 until the next full collection, which trebled the collector's
 * share of a request.
 */
export class LinkedList<Item extends Linked> {
  #first: Item | undefined
  #last: Item | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  get first(): Item | undefined {
    return this.#first
  }

  push(item: Item): void {
    item.previous = this.#last
    if (this.#last) this.#last.following = item
    else this.#first = item
    this.#last = item
    this.#size++
  }

  /** @param item one of the list */
  remove(item: Item): void {
    const { previous, following } = item
    if (previous) previous.following = following
    else this.#first = following
    if (following) following.previous = previous
    else this.#last = previous
    // What is over must lead to nothing that came after it.
    item.previous = undefined
    item.following = undefined
    this.#size--
  }

  /** As it is now: the list may change while the result is gone through. */
  all(): Item[] {
    const items: Item[] = []
    for (let item = this.#first; item; item = item.following) items.push(item)
    return items
  }
}
