import { expect } from "chai"
import { Type } from "class-transformer"
import { IsInt } from "class-validator"
import type Koa from "koa"
import { type Action, Authorized, CurrentUser, Get, JsonController, QueryParam, QueryParams } from "routing-controllers"
import { Session } from "../../src/decorators/session"
import { getSession } from "../../src/koa/sessions"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"

class PageQuery {
  @IsInt()
  @Type(() => Number)
  page!: number
}

const seen = new Set<Session>()

@JsonController("/one")
class OneController {
  @Get("/invalid")
  async invalid(@Session() session: Session, @QueryParams() { page }: PageQuery) {
    await session.insert(Note, { text: `page ${page}` })
    return { ok: true }
  }

  @Get("/required")
  async required(@QueryParam("page", { required: true }) page: number, @Session() session: Session) {
    await session.insert(Note, { text: `page ${page}` })
    return { ok: true }
  }

  @Get("/two")
  async two(@Session() first: Session, @Session() second: Session) {
    seen.add(first).add(second)
    await Promise.all([first.insert(Note, { text: "first" }), second.insert(Note, { text: "second" })])
    return { ok: true }
  }

  @Authorized("admin")
  @Get("/checked")
  async checked(@CurrentUser({ required: true }) user: { text: string }, @Session() session: Session) {
    seen.add(session)
    await session.insert(Note, { text: `by ${user.text}` })
    return { ok: true }
  }
}

async function check(action: Action, text: string): Promise<{ text: string }> {
  const session = await getSession(action.context as Koa.Context)
  seen.add(session)
  await session.insert(Note, { text })
  return { text }
}

describeOnEach("one request asks for its session several times", shared, (database) => {
  let server: SessionApp
  let refused: boolean

  beforeEach(async () => {
    seen.clear()
    refused = false
    server = await startSessionApp(database, {
      controllers: [OneController],
      currentUserChecker: (action) => check(action, "current user"),
      authorizationChecker: async (action) => {
        await check(action, "authorization")
        return !refused
      },
    })
  })
  afterEach(() => server.stop())

  const begins = () => server.log.verbs().filter((verb) => verb === "BEGIN").length
  const texts = async () => (await server.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text)

  for (const path of ["/one/invalid?page=x", "/one/required"]) {
    it(`takes no connection and leaves no session when another parameter is invalid (${path})`, async () => {
      const replies = await Promise.all(Array.from({ length: 20 }, () => server.http.get(path)))
      expect([...new Set(replies.map(({ status }) => status))]).to.deep.equal([400])
      await server.settled()
      expect(begins()).to.equal(0)
      expect(server.maker.stats()).to.include({ open: 0, active: 0, committed: 0, rolledBack: 0 })
    })
  }

  it("gives two @Session() parameters one session with one BEGIN", async () => {
    expect((await server.http.get("/one/two")).status).to.equal(200)
    await server.settled()
    expect(seen.size).to.equal(1)
    expect(await texts()).to.deep.equal(["first", "second"])
    if (database.kind !== "mysql") expect(begins()).to.equal(1)
    expect(server.maker.stats()).to.include({ committed: 1, rolledBack: 0 })
  })

  it("gives @Session(), currentUserChecker and authorizationChecker one session with one BEGIN", async () => {
    expect((await server.http.get("/one/checked")).status).to.equal(200)
    await server.settled()
    expect(seen.size).to.equal(1)
    expect(await texts()).to.have.members(["authorization", "current user", "by current user"])
    if (database.kind !== "mysql") expect(begins()).to.equal(1)
    expect(server.maker.stats()).to.include({ committed: 1, rolledBack: 0 })
  })

  it("rolls back what the authorizationChecker wrote when it refuses", async () => {
    refused = true
    expect((await server.http.get("/one/checked")).status).to.equal(403)
    await server.settled()
    expect(await texts()).to.deep.equal([])
    expect(server.maker.stats()).to.include({ open: 0, committed: 0, rolledBack: 1 })
  })
})
