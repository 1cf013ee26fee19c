import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { Agent, request } from "node:http"
import { join } from "node:path"
import { expect } from "chai"
import { type CreatedDatabase, describeOnEach } from "../support/databases"
import { shared } from "./support/databases"
import { eventually } from "./support/eventually"
import type { ShutdownMessage } from "./support/shutdown-server"

interface Running {
  readonly child: ChildProcess
  readonly port: number
  readonly messages: ShutdownMessage[]
  readonly exited: Promise<readonly [number | null, NodeJS.Signals | null]>
}

async function start(database: CreatedDatabase, timeoutMs: number): Promise<Running> {
  const child = fork(join(__dirname, "support", "shutdown-server.js"), [database.uri, String(timeoutMs)], {
    execArgv: ["--throw-deprecation"],
  })
  const messages: ShutdownMessage[] = []
  child.on("message", (message) => messages.push(message as ShutdownMessage))
  const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>
  await eventually("the child listens", () => messages.some((message) => "port" in message), 15_000)
  const port = messages.flatMap((message) => ("port" in message ? [message.port] : []))[0] as number
  return { child, port, messages, exited }
}

/** @returns the status, or the code of the error where there is no answer */
function post(port: number, path: string, agent?: Agent): Promise<number | string> {
  return new Promise((resolve) => {
    const sent = request({ host: "127.0.0.1", port, path, method: "POST", agent: agent ?? false }, (response) => {
      response.resume().on("close", () => resolve(response.statusCode ?? 0))
    })
    sent.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message)).end()
  })
}

const entered = ({ messages }: Running) => messages.filter((message) => "entered" in message).length
const received = ({ messages }: Running) => messages.filter((message) => "received" in message).length
const ending = ({ messages }: Running) => messages.flatMap((message) => ("hasFinished" in message ? [message] : []))[0]

describeOnEach("SIGTERM under load", shared, (database) => {
  let created: CreatedDatabase
  let running: Running | undefined

  beforeEach(async () => {
    created = await database.createDatabase()
    await direct("CREATE TABLE memo (text varchar(40))")
  })
  afterEach(async () => {
    running?.child.kill("SIGKILL")
    await running?.exited
    await created.drop()
  })

  async function direct(sql: string): Promise<string[]> {
    const connection = await created.open()
    const rows = await connection.query(sql)
    await connection.close()
    return rows.map(({ text }) => String(text))
  }

  it("refuses new connections, lets the requests in flight finish and commit, and the process ends by itself", async () => {
    running = await start(created, 8_000)
    const { port, child } = running
    const keptOpen = new Agent({ keepAlive: true })
    const replies = Array.from({ length: 20 }, (_, n) => post(port, `/work?text=note${n}&for=100`, keptOpen))
    // What the server has not received yet it cannot finish. Of those it has, most still wait for a connection.
    await eventually("all are in flight", () => received(running as Running) === 20 && entered(running as Running) > 0)
    const startedAt = performance.now()
    child.kill("SIGTERM")
    await eventually("it has begun to stop", async () => (await post(port, "/")) === "ECONNREFUSED")
    expect(await post(port, "/work?text=new&for=1")).to.equal("ECONNREFUSED")
    expect([...new Set(await Promise.all(replies))]).to.deep.equal([200])
    expect(await running.exited).to.deep.equal([0, null])
    expect(performance.now() - startedAt).to.be.below(8_000)
    expect(ending(running)).to.include({ hasFinished: true, open: 0 })
    const texts = await direct("SELECT text FROM memo")
    expect(texts.filter((text) => text.startsWith("note"))).to.have.length(40)
    expect(texts.filter((text) => text.startsWith("new"))).to.have.length(0)
    keptOpen.destroy()
  })

  const stuck = database.kind === "sqlite" ? ["ever"] : ["ever", sleepSql()]
  function sleepSql(): string {
    return database.kind === "postgres" ? "SELECT pg_sleep(60)" : "SELECT sleep(60)"
  }

  for (const how of stuck) {
    it(`rolls back what is left past the deadline, and the process ends by itself (${how})`, async () => {
      running = await start(created, 300)
      const { port, child } = running
      const replies = Array.from({ length: 3 }, (_, n) =>
        post(port, `/work?text=stuck${n}&for=${encodeURIComponent(how)}`),
      )
      const inFlight = database.kind === "sqlite" ? 1 : 3
      await eventually("they are in flight", () => entered(running as Running) === inFlight)
      const startedAt = performance.now()
      child.kill("SIGTERM")
      expect(await running.exited).to.deep.equal([0, null])
      expect(performance.now() - startedAt).to.be.below(5_000)
      expect(ending(running)).to.include({ hasFinished: false, open: 0 })
      expect((await Promise.all(replies)).filter((answer) => answer === 200)).to.deep.equal([])
      expect(await direct("SELECT text FROM memo")).to.deep.equal([])
      if (database.kind === "sqlite") return
      await eventually("the server has none of its connections left", async () => (await connections()) === 0)
    })
  }

  async function connections(): Promise<number> {
    const rows = await direct(
      database.kind === "postgres"
        ? "SELECT 'x' AS text FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        : "SELECT 'x' AS text FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
    )
    return rows.length
  }
})
