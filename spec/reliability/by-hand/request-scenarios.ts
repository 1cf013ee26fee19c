import { fork } from "node:child_process"
import { once } from "node:events"
import { Note } from "../../support/http-entities"
import { type ByHandApp, inTransaction, startByHandApp } from "./app"
import { pause, type Scenario, tally, within } from "./scenario"

const texts = async (app: ByHandApp) =>
  (await app.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text).join(", ") || "nothing"
const begins = (app: ByHandApp) => app.wire.verbs().filter((verb) => verb === "BEGIN").length

const answer = ({ status, text }: { status: number; text: string }) => `${status} ${text.slice(0, 100)}`.trim()

export const requestScenarios: Readonly<Record<string, Scenario>> = {
  async "a statement fails and the action swallows it"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await manager.insert(Note, { text: "kept?" })
      await manager.query("SELECT * FROM no_such_table").catch(() => undefined)
      return { ok: true }
    }
    say(`answer ${answer(await app.http.post("/json"))}; stored: ${await texts(app)}; logged: ${app.emitted.length}`)
  },

  async "client aborts during a slow read"(say) {
    const app = await startByHandApp(1)
    app.work = (manager) => manager.query("SELECT pg_sleep(3)")
    const started = app.http.startRequest("/json")
    await pause(300)
    started.destroy()
    await pause(1_000)
    const running =
      "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(3)%' AND pid <> pg_backend_pid()"
    say(
      (await app.rows(running)).length > 0 ? "the statement still runs a second later" : "the statement was cancelled",
    )
    app.work = (manager) => manager.count(Note)
    say(`next request on the pool of 1 meanwhile: ${await within(1_000, app.http.get("/json"), answer)}`)
  },

  async "Promise.all of ten statements"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await Promise.all(Array.from({ length: 10 }, (_, n) => manager.insert(Note, { text: `note ${n}` })))
      return { ok: true }
    }
    say(`answer ${answer(await app.http.post("/json"))}`)
  },

  async "Promise.all of three nested transactions of which one throws"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await Promise.allSettled(
        [0, 1, 2].map((n) =>
          manager.transaction(async (inner) => {
            await inner.insert(Note, { text: `block ${n}` })
            if (n === 1) throw new Error("The block failed.")
            await inner.insert(Note, { text: `block ${n} later` })
          }),
        ),
      )
      await manager.insert(Note, { text: "after" })
      return { ok: true }
    }
    say(`answer ${await within(4_000, app.http.post("/json"), answer)}; stored: ${await texts(app)}`)
    app.work = (manager) => manager.count(Note)
    say(`next: ${await within(3_000, app.http.get("/json"), answer)}`)
  },

  async "Promise.all of a failing and a slow write"(say) {
    const app = await startByHandApp(1)
    let late: Promise<unknown> = Promise.resolve()
    app.work = async (manager) => {
      late = manager.query("SELECT pg_sleep(0.3)").then(() => manager.insert(Note, { text: "slow" }))
      late.catch(() => undefined)
      await Promise.all([late, Promise.reject(new Error("The other write failed."))])
    }
    say(`answer ${await within(4_000, app.http.post("/json"), answer)}`)
    say(`the slow one: ${await within(3_000, late, () => "went through")}; stored: ${await texts(app)}`)
  },

  async "a forgotten await: a statement after the response"(say) {
    const app = await startByHandApp(1)
    app.work = (manager) => {
      setTimeout(() => void manager.insert(Note, { text: "late" }), 200)
      return { ok: true }
    }
    say(`answer ${answer(await app.http.post("/json"))}`)
    await pause(1_000)
    say(`stored: ${await texts(app)}; logged: ${app.emitted.length}`)
  },

  async "currentUserChecker, authorizationChecker and action use the database"(say) {
    const app = await startByHandApp(5)
    app.wire.clear()
    app.work = async (manager, ctx) => {
      // As a checker has to: it has no access to the action's query runner.
      for (let checker = 0; checker < 2; checker++) await inTransaction(app.dataSource, ctx, (own) => own.count(Note))
      return manager.count(Note)
    }
    say(`answer ${answer(await app.http.get("/json"))}; transactions: ${begins(app)}`)
  },

  async "responses that fail after the action"(say) {
    const app = await startByHandApp(1)
    const results: Record<string, (ctx: { status: number }) => unknown> = {
      "a BigInt": () => ({ big: 1n }),
      undefined: () => undefined,
      "a status of 422": (ctx) => {
        ctx.status = 422
        return { error: "no" }
      },
    }
    for (const [name, result] of Object.entries(results)) {
      app.work = async (manager, ctx) => {
        await manager.insert(Note, { text: name })
        return result(ctx)
      }
      say(`${name}: ${(await app.http.post("/json")).status}`)
    }
    say(`stored: ${await texts(app)}`)
  },

  async "what runs after the commit throws"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager, _, runner) => {
      await manager.insert(Note, { text: "kept" })
      await runner.commitTransaction()
      throw new Error("The mail was not sent.")
    }
    say(`answer ${answer(await app.http.post("/json"))}; stored: ${await texts(app)}`)
  },

  async "the DataSource is destroyed and made anew in the middle of a request"(say) {
    const app = await startByHandApp(1)
    let entered: () => void = () => undefined
    const isIn = new Promise<void>((resolve) => {
      entered = resolve
    })
    app.work = async (manager) => {
      await manager.insert(Note, { text: "one" })
      entered()
      await pause(500)
      await manager.insert(Note, { text: "two" })
      return { ok: true }
    }
    const inFlight = app.http.post("/json")
    await isIn
    const destroyed = app.dataSource.destroy()
    await pause(50)
    say(`a new request meanwhile: ${await within(2_000, app.http.post("/json"), answer)}`)
    say(`the one in flight: ${await within(4_000, inFlight, answer)}; stored: ${await texts(app)}`)
    say(`destroy(): ${await within(2_000, destroyed, () => "resolved")}`)
  },

  async "SIGTERM under load"(say) {
    if (process.env.BY_HAND_SERVER) {
      const app = await startByHandApp(5)
      app.work = async (manager) => {
        await manager.insert(Note, { text: `n${Math.random()}` })
        await pause(500)
        return { ok: true }
      }
      process.send?.(app.http.port)
      await pause(10_000)
    }
    const { request } = await import("node:http")
    const server = fork(process.argv[1] ?? "", process.argv.slice(2), {
      env: { ...process.env, BY_HAND_SERVER: "1" },
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    })
    const [port] = (await once(server, "message")) as [number]
    const replies = Array.from(
      { length: 20 },
      () =>
        new Promise<string | number>((resolve) => {
          request({ host: "127.0.0.1", port, path: "/json", method: "POST", agent: false }, (response) =>
            resolve(response.resume().statusCode ?? 0),
          )
            .on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""))
            .end()
        }),
    )
    await pause(300)
    server.kill("SIGTERM")
    say(`20 requests in flight: ${tally(await Promise.all(replies))}`)
  },

  async "a transaction is held for long"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await manager.insert(Note, { text: "slow" })
      await pause(2_000)
      return { ok: true }
    }
    say(`answer ${answer(await app.http.post("/json"))}; reported: ${app.emitted.length}`)
  },
}
