import type { Block } from "./block"

/** The result streams of one session that have not ended; each occupies its connection. */
export class OpenStreams {
  /** and the block that each was opened in */
  readonly #open = new Map<NodeJS.ReadableStream, Block>()
  readonly #waiting: (() => void)[] = []

  get count(): number {
    return this.#open.size
  }

  /** @returns a promise that resolves when the stream has ended, failed or been destroyed */
  follow(stream: NodeJS.ReadableStream, block: Block): Promise<void> {
    this.#open.set(stream, block)
    return new Promise((resolve) => {
      stream.once("close", () => {
        this.#open.delete(stream)
        resolve()
        if (this.#open.size === 0) for (const ended of this.#waiting.splice(0)) ended()
      })
    })
  }

  /** Resolves once none is open. */
  whenEnded(): Promise<void> {
    if (this.#open.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /** @param block where only those opened in it are meant */
  destroy(block?: Block): void {
    for (const [stream, openedIn] of this.#open) {
      if (block === undefined || openedIn.isWithin(block))
        (stream as NodeJS.ReadableStream & { destroy(): void }).destroy()
    }
  }
}
