import { expect } from "chai"
import { JsonController, Post, QueryParam } from "routing-controllers"
import { Container, Service, Token } from "typedi"
import { QueryFailedError } from "typeorm"
import { Session } from "../../src/decorators/session"
import { PartialCommitError } from "../../src/errors"
import { SessionMaker } from "../../src/session/session-maker"
import { InjectSession } from "../../src/typedi/inject-session"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"
import { httpEntities, Note, Remark } from "../support/http-entities"
import type { SessionApp } from "../support/session-app"
import { startServiceApp } from "./support/service-app"

const Analytics = new Token<SessionMaker>("analytics")
const Archive = new Token<SessionMaker>("archive")

const order: string[] = []

@Service()
class Reports {
  constructor(
    @InjectSession({ maker: Archive }) readonly archive: Session,
    @InjectSession({ maker: Analytics }) readonly analytics: Session,
    @InjectSession() readonly db: Session,
  ) {}
}

/** A remark on a note that is not there: refused at COMMIT. */
async function breakAtCommit(session: Session): Promise<void> {
  await session.insert(Remark, { noteId: 4711 })
}

@JsonController("/several")
@Service()
class SeveralController {
  constructor(readonly reports: Reports) {}

  @Post("/order")
  async order(@QueryParam("names") names: string): Promise<object> {
    const { db, analytics, archive } = this.reports
    const sessions: Record<string, Session> = { db, analytics, archive }
    for (const name of names.split(",")) {
      await sessions[name]?.save(Note, { text: name })
      sessions[name]?.afterCommit(() => order.push(name))
    }
    return {}
  }

  @Post("/second-fails")
  async secondFails(): Promise<object> {
    const { db, analytics, archive } = this.reports
    await db.save(Note, { text: "first" })
    await breakAtCommit(analytics)
    await archive.save(Note, { text: "third" })
    return {}
  }

  @Post("/first-fails")
  async firstFails(): Promise<object> {
    const { db, analytics } = this.reports
    await breakAtCommit(analytics)
    await db.save(Note, { text: "second" })
    return {}
  }

  @Post("/first-reads")
  async firstReads(): Promise<object> {
    const { db, analytics } = this.reports
    await db.count(Note)
    await breakAtCommit(analytics)
    return {}
  }

  @Post("/after-response")
  async afterResponse(
    @Session({ commit: "after-response" }) db: Session,
    @Session({ commit: "after-response", maker: Analytics }) analytics: Session,
    @Session({ commit: "after-response", maker: Archive }) archive: Session,
  ): Promise<object> {
    await archive.save(Note, { text: "archive" })
    await breakAtCommit(analytics)
    await db.save(Note, { text: "db" })
    return {}
  }

  @Post("/fail")
  async fail(): Promise<object> {
    const { db, analytics } = this.reports
    await analytics.save(Note, { text: "lost" })
    await db.save(Note, { text: "lost" })
    throw new Error("fails")
  }
}

/** Where a constraint can be broken at COMMIT, and somebody else can look. */
const databases = testDatabases.filter(({ kind, isFile }) => kind === "postgres" || isFile)

describeOnEach("several databases in one action", databases, (testDatabase) => {
  let app: SessionApp
  const others = new Map<Token<SessionMaker>, { maker: SessionMaker; database: CreatedDatabase }>()

  beforeEach(async () => {
    order.length = 0
    app = await startServiceApp(testDatabase, { controllers: [SeveralController] })
    for (const token of [Analytics, Archive]) {
      const database = await testDatabase.createDatabase()
      const maker = new SessionMaker(database.uri, { entities: httpEntities, synchronize: true })
      await maker.dataSource()
      Container.set({ id: token, value: maker })
      others.set(token, { maker, database })
    }
  })
  afterEach(async () => {
    await app.stop()
    for (const [token, { maker, database }] of others) {
      await maker.close()
      await database.drop()
      Container.remove(token)
    }
  })

  async function texts(token?: Token<SessionMaker>): Promise<unknown[]> {
    const sql = "SELECT text FROM note"
    const rows = token ? await (await others.get(token)?.database.open())?.query(sql) : await app.rows(sql)
    return (rows ?? []).map(({ text }) => text)
  }

  for (const names of ["db,analytics,archive", "archive,db,analytics", "analytics,archive,db"]) {
    it(`commits in the order of first use: ${names}`, async () => {
      expect((await app.http.post(`/several/order?names=${names}`)).status).to.equal(200)
      expect(order).to.deep.equal(names.split(","))
      expect([await texts(), await texts(Analytics), await texts(Archive)]).to.deep.equal([
        ["db"],
        ["analytics"],
        ["archive"],
      ])
    })
  }

  it("names both where the second commit fails: the first stays, the rest is rolled back, the client gets a 500", async () => {
    const reply = await app.http.post("/several/second-fails")
    expect([reply.status, reply.json()]).to.deep.equal([
      500,
      { name: "InternalServerError", message: "Internal server error." },
    ])
    const [error] = app.errors.errors() as PartialCommitError[]
    expect(error).to.be.instanceOf(PartialCommitError)
    expect(error).to.deep.include({ committed: ["SessionMaker"], failed: 'Token "analytics"' })
    expect(error?.message).to.match(
      /^The commit of Token "analytics" failed after the commit of SessionMaker, which stays/,
    )
    expect(error?.cause).to.be.instanceOf(QueryFailedError)
    expect([await texts(), await texts(Analytics), await texts(Archive)]).to.deep.equal([["first"], [], []])
  })

  it("commits nothing, and answers as ever, where the first commit fails", async () => {
    expect((await app.http.post("/several/first-fails")).status).to.equal(409)
    expect([await texts(), await texts(Analytics)]).to.deep.equal([[], []])
  })

  it("answers as ever where the one committed before had only read", async () => {
    expect((await app.http.post("/several/first-reads")).status).to.equal(409)
    expect(app.errors.errors()).to.deep.equal([])
  })

  it('does and reports the same with commit "after-response"', async () => {
    expect((await app.http.post("/several/after-response")).status).to.equal(200)
    const { error } = await app.errors.next()
    expect(error).to.be.instanceOf(PartialCommitError)
    expect(error).to.deep.include({ committed: ['Token "archive"'], failed: 'Token "analytics"' })
    await app.settled()
    expect([await texts(), await texts(Analytics), await texts(Archive)]).to.deep.equal([[], [], ["archive"]])
  })

  it("rolls all of them back where the action throws", async () => {
    expect((await app.http.post("/several/fail")).status).to.equal(500)
    expect([await texts(), await texts(Analytics)]).to.deep.equal([[], []])
  })
})
