/** The result streams of one session that have not ended; each occupies its connection. */
export class OpenStreams {
  readonly #open = new Set<NodeJS.ReadableStream>()
  readonly #waiting: (() => void)[] = []

  get count(): number {
    return this.#open.size
  }

  /** @returns a promise that resolves when the stream has ended, failed or been destroyed */
  follow(stream: NodeJS.ReadableStream): Promise<void> {
    this.#open.add(stream)
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

  destroy(): void {
    for (const stream of this.#open) (stream as NodeJS.ReadableStream & { destroy(): void }).destroy()
  }
}
