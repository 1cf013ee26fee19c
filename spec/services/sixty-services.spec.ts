import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect } from "chai"
import { Container } from "typedi"
import {
  Analytics,
  type Member,
  observer,
  SERVICE_COUNT,
  Visit,
  VisitController,
} from "../../bench/services/sixty-services"
import { SessionMaker } from "../../src/session/session-maker"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import type { SessionApp } from "../support/session-app"
import { repositoryTop } from "../support/sources"
import { startServiceApp } from "./support/service-app"

const PARALLEL = 50

describeOnEach("60 services, 5 levels deep, on two databases", testDatabases, (testDatabase) => {
  let app: SessionApp
  let database: CreatedDatabase
  let analytics: SessionMaker

  beforeEach(async () => {
    const options = { entities: [Visit], synchronize: true, acquireTimeoutMs: 60_000 }
    app = await startServiceApp(testDatabase, { controllers: [VisitController], maker: options })
    database = await testDatabase.createDatabase()
    analytics = new SessionMaker(database.uri, options)
    await analytics.dataSource()
    Container.set({ id: Analytics, value: analytics })
  })
  afterEach(async () => {
    delete observer.onRequest
    await app.stop()
    await analytics.close()
    await database.drop()
    Container.remove(Analytics)
  })

  it(`give each of ${PARALLEL} parallel requests services and sessions of its own, and no other's`, async function () {
    this.timeout(60_000)
    const all = new Deferred()
    const seen = new Map<string, readonly Member[]>()
    observer.onRequest = async (marker, members) => {
      seen.set(marker, members)
      if (seen.size === PARALLEL) all.resolve()
      await all.promise
    }
    const replies = await Promise.all(
      Array.from({ length: PARALLEL }, (_, index) => app.http.get(`/visits?marker=request-${index}`)),
    )
    expect(SERVICE_COUNT).to.equal(60)
    for (const reply of replies) {
      expect(reply.json(), reply.text).to.deep.equal({ services: 60, foreign: 0, strange: 0 })
    }
    const members = [...seen.values()].flat()
    expect(new Set(members).size).to.equal(PARALLEL * 60)
    expect(new Set(members.map(({ session }) => session)).size).to.equal(PARALLEL * 2)
    await app.settled()
    expect([app.maker.stats().rolledBack, analytics.stats().rolledBack]).to.deep.equal([PARALLEL, PARALLEL])
  })
})

describe("60 services", () => {
  it("leave no controller, container, service or session behind after 5 000 requests", async function () {
    this.timeout(180_000)
    const script = join(repositoryTop, "dist", "bench", "services", "leak.js")
    const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", script, "5000"])
    for (const [kind, made] of Object.entries({
      controller: 5000,
      container: 5000,
      service: 300_000,
      session: 10_000,
    })) {
      expect(stdout).to.include(`${kind}: ${made} made, 0 left`)
    }
    expect(stdout).to.include("open sessions: 0 and 0")
  })
})
