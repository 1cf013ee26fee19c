import { expect } from "chai"
import Koa from "koa"
import { Get, JsonController, Post, QueryParam } from "routing-controllers"
import { Container } from "typedi"
import { Session } from "../../src/decorators/session"
import { useKoaServer } from "../../src/koa/use-koa-server"
import { SessionMaker } from "../../src/session/session-maker"
import { resetContainer } from "../../src/testing"
import { type CreatedDatabase, describeOnEach } from "../support/databases"
import { Deferred } from "../support/deferred"
import { type Listening, listen } from "../support/http"
import { collectKoaErrors } from "../support/koa-errors"
import { shared } from "./support/databases"

let entered: Deferred
let leave: Deferred

@JsonController("/reset")
class ResetController {
  @Post()
  async write(@Session() session: Session, @QueryParam("text") text: string, @QueryParam("wait") wait?: string) {
    await session.query(`INSERT INTO memo (text) VALUES ('${text} 1')`)
    if (wait !== undefined) {
      entered.resolve()
      await leave.promise
    }
    await session.query(`INSERT INTO memo (text) VALUES ('${text} 2')`)
    return { ok: true }
  }

  @Get()
  async read(@Session() session: Session) {
    return session.query("SELECT text FROM memo ORDER BY text")
  }
}

describeOnEach("the maker changes in the middle of requests", shared, (database) => {
  let first: CreatedDatabase
  let second: CreatedDatabase
  let http: Listening

  beforeEach(async () => {
    entered = new Deferred()
    leave = new Deferred()
    first = await database.createDatabase()
    second = await database.createDatabase()
    for (const { open } of [first, second]) {
      const connection = await open()
      await connection.query("CREATE TABLE memo (text varchar(40))")
      await connection.close()
    }
    process.env.DATABASE_URI = first.uri
    const app = new Koa()
    collectKoaErrors(app)
    useKoaServer(app, { controllers: [ResetController] })
    http = await listen(app)
  })

  afterEach(async () => {
    await http.close()
    await resetContainer()
    Container.remove(SessionMaker)
    await first.drop()
    await second.drop()
  })

  async function texts({ open }: CreatedDatabase): Promise<unknown[]> {
    const connection = await open()
    const rows = await connection.query("SELECT text FROM memo ORDER BY text")
    await connection.close()
    return rows.map(({ text }) => text)
  }

  async function changeDuringRequest(change: () => Promise<void>): Promise<void> {
    const inFlight = http.post("/reset?text=old&wait")
    await entered.promise
    const changed = change()
    expect((await http.post("/reset?text=new")).status).to.equal(200)
    expect(await texts(second)).to.deep.equal(["new 1", "new 2"])
    leave.resolve()
    expect((await inFlight).status).to.equal(200)
    expect(await texts(first)).to.deep.equal(["old 1", "old 2"])
    expect(await texts(second)).to.deep.equal(["new 1", "new 2"])
    await changed
  }

  it("Container.reset() with another DATABASE_URI: those in flight finish on their database", async () => {
    await changeDuringRequest(async () => {
      process.env.DATABASE_URI = second.uri
      await resetContainer()
    })
  })

  it("maker.reset() with another databaseUri: those in flight finish on their database", async () => {
    const maker = new SessionMaker(first.uri)
    Container.set(SessionMaker, maker)
    await changeDuringRequest(async () => {
      maker.databaseUri = second.uri
      await maker.reset()
    })
    expect(maker.stats()).to.include({ open: 0, active: 0, waiting: 0, committed: 2, failed: 0 })
    await maker.close()
  })

  it("a change of DATABASE_URI alone changes nothing until the reset", async () => {
    expect((await http.post("/reset?text=a")).status).to.equal(200)
    process.env.DATABASE_URI = second.uri
    expect((await http.post("/reset?text=b")).status).to.equal(200)
    expect(await texts(first)).to.deep.equal(["a 1", "a 2", "b 1", "b 2"])
    expect(await texts(second)).to.deep.equal([])
  })

  it("50 requests around 5 resets: each is answered 200 and is whole on one of the databases", async () => {
    const texted: string[] = []
    const replies = []
    for (let round = 0; round < 5; round++) {
      for (let index = 0; index < 10; index++) {
        const text = `r${round}n${index}`
        texted.push(`${text} 1`, `${text} 2`)
        replies.push(http.post(`/reset?text=${text}`))
      }
      await replies[round * 10]
      process.env.DATABASE_URI = round % 2 === 0 ? second.uri : first.uri
      Container.reset()
    }
    const statuses = (await Promise.all(replies)).map(({ status }) => status)
    expect([...new Set(statuses)]).to.deep.equal([200])
    await resetContainer()
    const [one, two] = [await texts(first), await texts(second)]
    expect([...one, ...two].sort()).to.deep.equal(texted.sort())
    for (const stored of [one, two]) {
      const odd = stored.filter((text) => !stored.includes(String(text).replace(/.$/, (n) => (n === "1" ? "2" : "1"))))
      expect(odd).to.deep.equal([])
    }
  })
})
