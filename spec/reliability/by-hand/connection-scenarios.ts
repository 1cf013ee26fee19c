import { Readable } from "node:stream"
import { HttpError } from "routing-controllers"
import { DataSource } from "typeorm"
import { startFaultyNetwork } from "../../support/faulty-network"
import { Note, Remark } from "../../support/http-entities"
import { type ByHandApp, inTransaction, startByHandApp } from "./app"
import { pause, type Scenario, tally, within } from "./scenario"

const TERMINATE =
  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

const shown = ({ status, text }: { status: number; text: string }) => `${status}${leaks(text)}`
const leaks = (text: string) =>
  /"query"|"parameters"|INSERT INTO|driverError/.test(text) ? " with SQL in the body" : ""
const count = async (app: ByHandApp) => Number((await app.rows("SELECT count(*) AS n FROM note"))[0]?.n)

async function post(app: ByHandApp, path: string): Promise<number | string> {
  try {
    return (await app.http.post(path)).status
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}

const insert: ByHandApp["work"] = async (manager, ctx) => {
  await manager.insert(Note, { text: String(ctx.query.text ?? "note") })
  return { ok: true }
}

export const connectionScenarios: Readonly<Record<string, Scenario>> = {
  async "deferred constraint fails at COMMIT"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await manager.insert(Remark, { noteId: 4711 })
      return { ok: true }
    }
    say(`answer ${shown(await app.http.post("/json"))}`)
    app.work = insert
    say(`next request on the pool of 1: ${await within(3_000, app.http.post("/json"), shown)}`)
  },

  async "backend killed in mid-transaction, a statement follows"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await manager.insert(Note, { text: "a" })
      await app.rows(TERMINATE)
      await manager.insert(Note, { text: "b" })
      return { ok: true }
    }
    say(
      `answer ${await within(3_000, app.http.post("/json"), ({ status, text }) => `${status} ${text.slice(0, 160)}`)}`,
    )
    app.work = insert
    say(`next: ${await within(3_000, app.http.post("/json"), shown)}`)
  },

  async "backend killed in mid-transaction, the action throws HttpError 418"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await manager.insert(Note, { text: "a" })
      await app.rows(TERMINATE)
      throw new HttpError(418, "short and stout")
    }
    say(
      `answer ${await within(3_000, app.http.post("/json"), ({ status, text }) => `${status} ${text.slice(0, 120)}`)}`,
    )
    app.work = insert
    say(`next: ${await within(3_000, app.http.post("/json"), shown)}`)
  },

  async "ROLLBACK fails because the network is cut, the action throws HttpError 418"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await manager.insert(Note, { text: "a" })
      app.wire.cutOn(/^ROLLBACK/, "before")
      throw new HttpError(418, "short and stout")
    }
    say(
      `answer ${await within(3_000, app.http.post("/json"), ({ status, text }) => `${status} ${text.slice(0, 120)}`)}`,
    )
    app.work = insert
    say(`next: ${await within(3_000, app.http.post("/json"), shown)}`)
  },

  async "idle connections are lost without a word"(say) {
    const app = await startByHandApp(5)
    app.work = insert
    await Promise.all(Array.from({ length: 20 }, (_, n) => post(app, `/json?text=warm${n}`)))
    app.gate.strand()
    const all = await Promise.all(Array.from({ length: 50 }, (_, n) => post(app, `/json?text=n${n}`)))
    say(`50 requests: ${tally(all)}`)
  },

  async "connections die under load"(say) {
    const app = await startByHandApp(5)
    app.work = insert
    const answers: { text: string; status: number | string }[] = []
    let next = 0
    let isOver = false
    const clients = Array.from({ length: 20 }, async () => {
      while (!isOver) {
        const text = `n${next++}`
        answers.push({ text, status: await post(app, `/json?text=${text}`) })
      }
    })
    for (let round = 0; round < 5; round++) {
      await pause(200)
      await app.rows(TERMINATE)
    }
    await pause(300)
    isOver = true
    await within(3_000, Promise.all(clients), () => "")
    const kept = new Set((await app.rows("SELECT text FROM note")).map(({ text }) => text))
    const lost = answers.filter(({ status, text }) => status === 200 && !kept.has(text)).length
    const statuses = tally(answers.map(({ status }) => status))
    say(`${statuses.replace(/^\d+ x 200/, "most 200")}; acknowledged and lost: ${lost}`)
  },

  async "the driver's query_timeout runs out, and the next request commits"(say) {
    const app = await startByHandApp(1, {}, { extra: { query_timeout: 400 } })
    app.work = async (manager) => {
      await manager.insert(Note, { text: "refused" })
      await manager.query("SELECT pg_sleep(1)")
    }
    say(`answer ${await within(5_000, app.http.post("/json"), shown)}`)
    await pause(1_500)
    app.work = insert
    say(`next: ${await within(5_000, app.http.post("/json?text=good"), shown)}`)
    say(`stored: ${tally((await app.rows("SELECT text FROM note")).map(({ text }) => String(text))) || "nothing"}`)
  },

  async "the answer to COMMIT is cut"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager, ctx) => {
      app.wire.cutOn(/^COMMIT/, "after")
      await manager.insert(Note, { text: String(ctx.query.text ?? "note") })
      return { ok: true }
    }
    say(
      `answer ${await within(5_000, app.http.post("/json"), ({ status, text }) => `${status} ${text.slice(0, 120)}`)}; ` +
        `rows stored: ${await count(app)}`,
    )
  },

  async "no packet passes any more, and nothing is closed"(say) {
    const app = await startByHandApp(1)
    const network = await startFaultyNetwork(app.wire.uri, "postgres")
    const dataSource = new DataSource({ type: "postgres", url: network.uri, entities: [Note], poolSize: 1 })
    await dataSource.initialize()
    await dataSource.query("SELECT 1")
    network.silence()
    say(await within(10_000, dataSource.query("SELECT 1"), () => "answered"))
    network.resume()
  },

  async "COPY FROM STDIN as the first statement"(say) {
    const app = await startByHandApp(1)
    app.work = (manager) => manager.query("COPY note (text) FROM STDIN")
    say(`answer ${await within(5_000, app.http.post("/json"), shown)}`)
    app.work = insert
    say(`next: ${await within(3_000, app.http.post("/json"), shown)}`)
  },

  async "a raw COMMIT in the action, which goes on and throws"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      await manager.insert(Note, { text: "before" })
      await manager.query("COMMIT")
      await manager.insert(Note, { text: "after" })
      throw new HttpError(418, "short and stout")
    }
    say(`answer ${await within(5_000, app.http.post("/json"), shown)}`)
    say(`stored: ${tally((await app.rows("SELECT text FROM note")).map(({ text }) => String(text))) || "nothing"}`)
  },

  async "code of a block that fails goes on through the outer variable"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager) => {
      let late: Promise<unknown> = Promise.resolve()
      const block = manager.transaction(async (inner) => {
        await inner.insert(Note, { text: "in the block" })
        late = pause(100).then(() => manager.insert(Note, { text: "late, of the block" }))
        throw new Error("The block failed.")
      })
      await block.catch(() => undefined)
      await late
      return { ok: true }
    }
    say(`answer ${await within(5_000, app.http.post("/json"), shown)}`)
    say(`stored: ${tally((await app.rows("SELECT text FROM note")).map(({ text }) => String(text))) || "nothing"}`)
  },

  async "database down at start"(say) {
    const dataSource = new DataSource({ type: "postgres", url: "postgres://postgres@127.0.0.1:1/none" })
    say(await within(3_000, dataSource.initialize(), () => "started"))
    say("initialize() at start rejects: the server does not start")
  },

  async "pool exhausted"(say) {
    const app = await startByHandApp(1)
    let letGo: () => void = () => undefined
    const gate = new Promise<void>((resolve) => {
      letGo = resolve
    })
    app.work = async (manager) => {
      await manager.insert(Note, { text: "holder" })
      await gate
      return { ok: true }
    }
    const holder = app.http.post("/json")
    await pause(300)
    app.work = insert
    const queued = [0, 1, 2].map((n) => app.http.startRequest(`/json?text=queued${n}`, { method: "POST" }))
    const other = app.http.post("/json?text=other")
    say(`a request on the exhausted pool: ${await within(5_000, other, shown)}`)
    for (const one of queued) one.destroy()
    await pause(200)
    letGo()
    await holder
    await pause(500)
    const rows = await app.rows("SELECT text FROM note WHERE text LIKE 'queued%'")
    say(`of 3 clients that aborted while queued, ${rows.length} were carried out all the same`)
  },

  async "second transaction inside a request with a pool of 1"(say) {
    const app = await startByHandApp(1)
    app.work = async (manager, ctx) => {
      await manager.insert(Note, { text: "outer" })
      return inTransaction(app.dataSource, ctx, (inner) => inner.insert(Note, { text: "inner" }))
    }
    say(`answer: ${await within(5_000, app.http.post("/json"), shown)}`)
    app.work = insert
    say(`every other request then: ${await within(3_000, app.http.post("/json"), shown)}`)
  },

  async "200 slow readers of a buffered body"(say) {
    const app = await startByHandApp(5)
    const body = { text: "x".repeat(1_048_576) }
    app.work = async (manager, ctx) => {
      await manager.count(Note)
      return ctx.query.large === undefined ? { ok: true } : body
    }
    await Promise.all(Array.from({ length: 200 }, () => app.http.startRequest("/json?large").response))
    const startedAt = performance.now()
    const others = await within(5_000, Promise.all(Array.from({ length: 50 }, () => app.http.get("/json"))), (all) =>
      tally(all.map(({ status }) => status)),
    )
    say(
      `50 others: ${others} in ${performance.now() - startedAt < 1_000 ? "less than a second" : "more than a second"}`,
    )
  },

  async "result stream as the body"(say) {
    const app = await startByHandApp(1)
    for (let n = 0; n < 30; n++) await app.dataSource.manager.insert(Note, { text: `note ${n}` })
    app.work = async (_, ctx, runner) => {
      const rows = await runner.stream("SELECT a.text, repeat('x', 10000) AS filler FROM note a, note b")
      ctx.body = Readable.from(
        (async function* () {
          for await (const row of rows as AsyncIterable<{ text: string }>) yield `${row.text}\n`
        })(),
      )
      return ctx
    }
    const read = await within(
      4_000,
      app.http.get("/json"),
      ({ status, text }) => `${status}, ${text.split("\n").length - 1} of 900 rows`,
    )
    say(`read to the end: ${read}`)
    app.work = insert
    say(`next request on the pool of 1: ${await within(3_000, app.http.post("/json"), shown)}`)
    say(`rows: ${await count(app)}`)
  },
}
