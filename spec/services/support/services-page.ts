/**
 * Runs the code of docs/services.md, compiled to the module that is named, and prints what became of it. A process of its
 * own: its entities and its container are not to be those of other specs.
 */
import "reflect-metadata"
import type Koa from "koa"
import { SessionMaker } from "routing-controllers-typeorm"
import { Container } from "typedi"
import { listen } from "../../support/http"

interface Page {
  readonly Order: new () => object
  readonly AuditRow: new () => object
  readonly CountOrders: unknown
  readonly Orders: unknown
  readonly Mailer: unknown
  readonly Statistics: unknown
  readonly POLICY: string
  createApp(): Koa
  createAmbientApp(): Koa
  createTenantApp(): Koa
  join(): Promise<void>
  auditForGood(text: string): Promise<void>
  registerAnalytics(uri: string): SessionMaker
}

const [file = "", tenantUri] = process.argv.slice(2)
const page = require(file) as Page
const results: Record<string, unknown> = {}

async function main(): Promise<void> {
  const maker = new SessionMaker("sqlite://", { entities: [page.Order, page.AuditRow], synchronize: true })
  Container.set({ id: SessionMaker, value: maker })

  const plain = await listen(page.createApp())
  results.created = (await plain.post("/orders", { item: "tea" })).json()
  results.found = (await plain.get("/orders/1")).json()
  results.refused = (await plain.post("/orders", { item: "" })).status
  results.audit = await maker.run((db) => db.find(page.AuditRow))
  results.counted = (await plain.get("/orders/1")).headers["x-orders"]
  await plain.close()

  const ambient = await listen(page.createAmbientApp())
  await page.join()
  results.ambientCount = (await ambient.get("/counts")).json()
  results.imported = (await ambient.post("/imports", { items: ["milk", "sugar"] })).json()
  results.importUndone = (await ambient.post("/imports", { items: ["salt"], fail: true })).status
  results.orders = await maker.run((db) => db.count(page.Order))
  await ambient.close()

  await page.auditForGood("for good")
  results.auditRows = await maker.run((db) => db.count(page.AuditRow))
  const analytics = page.registerAnalytics("sqlite://")
  results.analyticsRows = await analytics.run((db) => db.count(page.AuditRow))
  await analytics.close()
  await maker.close()
  if (tenantUri) await showTenants(tenantUri)
  console.log(JSON.stringify(results))
}

async function showTenants(uri: string): Promise<void> {
  const owner = new SessionMaker(uri, { entities: [page.Order], synchronize: true })
  const role = `doc_app_${process.pid}`
  await owner.run(async (db) => {
    await db.query(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'`)
    await db.query(`GRANT SELECT ON doc_order TO ${role}`)
    await db.query(page.POLICY)
    await db.insert(page.Order, [{ item: "red:tea" }, { item: "red:milk" }, { item: "blue:tea" }] as never)
  })
  const own = Object.assign(new URL(uri), { username: role, password: role })
  const maker = new SessionMaker(own.href, { entities: [page.Order], poolSize: 1 })
  Container.set({ id: SessionMaker, value: maker })
  const app = await listen(page.createTenantApp())
  const count = async (tenant: string) => (await app.get("/counts", { headers: { "x-tenant": tenant } })).json()
  results.tenants = [await count("red"), await count("blue"), await count("green")]
  await app.close()
  await maker.close()
  await owner.run(async (db) => {
    await db.query(`REVOKE ALL ON doc_order FROM ${role}`)
    await db.query(`DROP ROLE ${role}`)
  })
  await owner.close()
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
