import { expect } from "chai"
import { getSession } from "../../src/koa/sessions"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

/** As a queue of work that all requests share: whoever comes first starts it, and its context stays that of the first. */
class Worker {
  readonly #jobs: (() => void)[] = []
  #wake = () => {}
  #isStarted = false

  run<T>(work: () => Promise<T>): Promise<T> {
    if (!this.#isStarted) void this.#loop()
    this.#isStarted = true
    return new Promise<T>((resolve, reject) => {
      this.#jobs.push(() => {
        work().then(resolve, reject)
      })
      this.#wake()
    })
  }

  async #loop(): Promise<void> {
    for (;;) {
      this.#jobs.shift()?.()
      if (this.#jobs.length > 0) continue
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

describeOnEach("A worker that requests share", httpDatabases, (database) => {
  let server: SessionApp
  afterEach(() => server.stop())

  for (const sessions of [{ ambient: true }, { retries: 1 }]) {
    it(`works for each of them by getSession(ctx), also when the request that started it failed: ${Object.keys(sessions)}`, async () => {
      server = await startSessionApp(database, { sessions })
      const worker = new Worker()
      server.work = async (_, ctx) => {
        const text = String(ctx.query.text)
        await worker.run(async () => (await getSession(ctx)).save(Note, { text }))
        if (text === "failed") throw new Error("thrown by the action")
        return "done"
      }
      expect((await server.http.post("/json?text=failed")).status).to.equal(500)
      expect((await server.http.post("/json?text=good")).status).to.equal(200)
      await server.settled()
      expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "good" }])
    })
  }
})
