/** The specs, run by mocha in a process of their own: `ISOLATION` is "sandbox", "truncate" or "delete". */
import assert from "node:assert/strict"
import { createServer, request, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import Koa from "koa"
import { SessionMaker, useKoaServer } from "routing-controllers-typeorm"
import { sandbox } from "routing-controllers-typeorm/testing"
import { Container } from "typedi"
import type { DataSource } from "typeorm"
import { AccountController, entities } from "./application"

const SPECS = Number(process.env.SPECS ?? 200)
const isolation = process.env.ISOLATION
const maker = new SessionMaker(process.env.DATABASE_URI ?? "", { entities })

describe("200 specs that each write through HTTP", () => {
  let server: Server
  let dataSource: DataSource

  before(async () => {
    Container.set({ id: SessionMaker, value: maker })
    dataSource = await maker.dataSource()
    server = createServer(useKoaServer(new Koa(), { controllers: [AccountController] }).callback())
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  })
  after(async () => {
    server.close()
    server.closeAllConnections()
    await maker.close()
  })

  if (isolation === "sandbox") sandbox(maker)
  else afterEach(() => empty(dataSource))

  for (let number = 0; number < SPECS; number++) {
    it(`creates an account, the only one (${number})`, async () => {
      const created = await ask("POST", { name: "the same in each spec" })
      assert.equal(created.status, 200, created.text)
      assert.deepEqual(JSON.parse((await ask("GET")).text), { accounts: 1, parts: 1 })
    })
  }

  function ask(method: string, body?: object): Promise<{ status: number | undefined; text: string }> {
    return new Promise((resolve, reject) => {
      const { port } = server.address() as AddressInfo
      const headers = { "content-type": "application/json" }
      const sent = request({ host: "127.0.0.1", port, path: "/accounts", method, headers }, (response) => {
        let text = ""
        response.on("data", (chunk) => {
          text += chunk
        })
        response.on("end", () => resolve({ status: response.statusCode, text }))
      })
      sent.on("error", reject)
      sent.end(body && JSON.stringify(body))
    })
  }
})

/** What suites without a sandbox do after each spec. */
async function empty(dataSource: DataSource): Promise<void> {
  const { type } = dataSource.options
  const names = dataSource.entityMetadatas.map(({ tablePath }) => dataSource.driver.escape(tablePath))
  if (isolation === "truncate" && type === "postgres") {
    await dataSource.query(`TRUNCATE ${names.join(", ")} RESTART IDENTITY CASCADE`)
    return
  }
  const runner = dataSource.createQueryRunner()
  try {
    if (type === "mysql") await runner.query("SET FOREIGN_KEY_CHECKS = 0")
    // SQLite has no TRUNCATE; without a transaction each DELETE would be one of its own.
    if (isolation === "delete" || type === "better-sqlite3") await runner.startTransaction()
    const verb = isolation === "truncate" && type === "mysql" ? "TRUNCATE" : "DELETE FROM"
    for (const name of names.reverse()) await runner.query(`${verb} ${name}`)
    if (runner.isTransactionActive) await runner.commitTransaction()
    if (type === "mysql") await runner.query("SET FOREIGN_KEY_CHECKS = 1")
  } finally {
    await runner.release()
  }
}
