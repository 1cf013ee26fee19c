import { mkdir, rmdir } from "node:fs/promises"
import { expect } from "chai"
import Koa from "koa"
import { Get, JsonController } from "routing-controllers"
import { Container } from "typedi"
import { Session } from "../../src/decorators/session"
import { DatabaseUnavailableError } from "../../src/errors"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { SessionMaker } from "../../src/session/session-maker"
import type { CreatedDatabase, TestDatabase } from "../support/databases"
import { describeOnEach } from "../support/databases"
import { type Listening, listen } from "../support/http"
import { httpEntities } from "../support/http-entities"
import { collectKoaErrors, type KoaErrors } from "../support/koa-errors"
import { shared } from "./support/databases"
import { eventually } from "./support/eventually"
import { createGate } from "./support/gate"

@JsonController()
class DownController {
  @Get("/plain")
  plain() {
    return { ok: true }
  }

  @Get("/notes")
  async notes(@Session() session: Session) {
    return session.query("SELECT 7 AS seven")
  }
}

interface Outage {
  readonly uri: string
  begin(): Promise<void>
  end(): Promise<void>
}

/** SQLite has no server: there the file cannot be opened, because a folder stands in its place. */
async function outageOf(created: CreatedDatabase, { kind }: TestDatabase): Promise<Outage> {
  if (kind === "sqlite") {
    const uri = `${created.uri}.down`
    const path = uri.replace("sqlite:///", "")
    return { uri, begin: async () => void (await mkdir(path)), end: () => rmdir(path) }
  }
  const gate = await createGate(created.uri, kind === "postgres" ? 5432 : 3306)
  return { uri: gate.uri, begin: gate.shut, end: gate.open }
}

describeOnEach("the database is down", shared, (database) => {
  let created: CreatedDatabase
  let outage: Outage
  let maker: SessionMaker
  let http: Listening
  let errors: KoaErrors

  beforeEach(async () => {
    created = await database.createDatabase()
    outage = await outageOf(created, database)
    maker = new SessionMaker(outage.uri, { entities: httpEntities, acquireTimeoutMs: 2_000 })
    Container.set(SessionMaker, maker)
    const app = new Koa()
    errors = collectKoaErrors(app)
    useKoaServer(app, { controllers: [DownController] })
    http = await listen(app)
  })

  afterEach(async () => {
    await http.close()
    await maker.close({ timeoutMs: 1 })
    Container.remove(SessionMaker)
    if (database.kind !== "sqlite") await outage.begin()
    await created.drop()
  })

  const statuses = async (count: number) => {
    const replies = await Promise.all(Array.from({ length: count }, () => http.get("/notes")))
    return [...new Set(replies.map(({ status }) => status))]
  }

  it("at start: the server starts, routes without a session work, one with a session answers 503 until it is up", async () => {
    await outage.begin()
    expect((await http.get("/plain")).status).to.equal(200)
    const refused = await http.get("/notes")
    expect(refused.status).to.equal(503)
    expect(refused.headers["retry-after"]).to.equal("1")
    expect(refused.text).to.not.match(/ECONN|CANTOPEN|127\.0\.0\.1|\//)
    expect(errors.errors()[0]).to.be.instanceOf(DatabaseUnavailableError)
    expect(await statuses(10)).to.deep.equal([503])
    expect((await http.get("/plain")).status).to.equal(200)
    await outage.end()
    expect(await statuses(10)).to.deep.equal([200])
    await eventually("every session has ended", () => maker.stats().open === 0)
  })
})

describeOnEach(
  "the database goes down and comes back",
  shared.filter(({ kind }) => kind !== "sqlite"),
  (database) => {
    it("answers 503 meanwhile and 200 afterwards, and no slot of the pool is lost", async () => {
      const created = await database.createDatabase()
      const gate = await createGate(created.uri, database.kind === "postgres" ? 5432 : 3306)
      const maker = new SessionMaker(gate.uri, { entities: httpEntities, poolSize: 2 })
      Container.set(SessionMaker, maker)
      const app = new Koa()
      collectKoaErrors(app)
      useKoaServer(app, { controllers: [DownController] })
      const http = await listen(app)
      try {
        await gate.open()
        for (let round = 0; round < 3; round++) {
          const up = await Promise.all(Array.from({ length: 10 }, () => http.get("/notes")))
          expect([...new Set(up.map(({ status }) => status))]).to.deep.equal([200])
          await gate.shut()
          const down = await Promise.all(Array.from({ length: 10 }, () => http.get("/notes")))
          expect([...new Set(down.map(({ status }) => status))]).to.deep.equal([503])
          await gate.open()
        }
        expect((await http.get("/notes")).status).to.equal(200)
        await eventually("every session has ended", () => maker.stats().open === 0)
        expect(maker.stats().pool.size).to.be.at.most(2)
      } finally {
        await http.close()
        await maker.close({ timeoutMs: 1 })
        Container.remove(SessionMaker)
        await gate.shut()
        await created.drop()
      }
    })
  },
)
