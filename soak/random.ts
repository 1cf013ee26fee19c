import { createHash } from "node:crypto"

/** Numbers that depend on nothing but the seed: the same seed gives the same ones on every machine, in every run. */
export class Random {
  #block = Buffer.alloc(0)
  #blocks = 0

  constructor(private readonly seed: string) {}

  /** @returns 0 to 1, 1 not included */
  next(): number {
    if (this.#block.length === 0) {
      this.#block = createHash("sha256")
        .update(`${this.seed}/${this.#blocks++}`)
        .digest()
    }
    const word = this.#block.readUInt32BE(0)
    this.#block = this.#block.subarray(4)
    return word / 2 ** 32
  }

  /** @returns a whole number; both ends are included */
  integer(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** @param weights how often each is picked, relative to the others */
  pick<T extends string>(weights: Readonly<Partial<Record<T, number>>>): T {
    const entries = Object.entries(weights) as [T, number][]
    let point = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of entries) {
      point -= weight
      if (point < 0) return name
    }
    return (entries.at(-1) as [T, number])[0]
  }
}
