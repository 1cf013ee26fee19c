import { expect } from "chai"
import type { Context } from "koa"
import { HttpError } from "routing-controllers"
import type { Session } from "../../src/decorators/session"
import type { SecondConnection } from "../support/databases"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import type { Work } from "../support/session-app"
import { connectionIdSql, postgresOnly, servers } from "./support/databases"
import { eventually } from "./support/eventually"
import { expectNothingHeld, type NetworkApp, startNetworkApp } from "./support/network-app"

const mysqlOnly = servers.filter(({ kind }) => kind === "mysql")

const insert: Work = async (db, ctx) => {
  await db.insert(Note, { text: String(ctx.query.text) })
  return { ok: true }
}

/** One statement that stores its text after it has run for as long as the request says. */
async function insertSlowly(db: Session, ctx: Context): Promise<object> {
  const { text, seconds } = ctx.query
  await db.query(`INSERT INTO note (text) SELECT '${text}' FROM pg_sleep(${seconds})`)
  return { ok: true }
}

const byQuery: Work = (db, ctx) => (ctx.query.seconds === undefined ? insert(db, ctx) : insertSlowly(db, ctx))

async function texts(app: NetworkApp): Promise<unknown[]> {
  return (await app.rows("SELECT text FROM note ORDER BY text")).map(({ text }) => text)
}

/** Backends of the database that run something or are in a transaction, those of the spec left out. */
const BUSY = `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' AND state <> 'idle'`

describeOnEach(
  "the driver's own time out (query_timeout) runs out while the server goes on",
  postgresOnly,
  (database) => {
    let app: NetworkApp
    const start = async (poolSize: number) => {
      app = await startNetworkApp(database, { query: "query_timeout=300", maker: { poolSize }, work: byQuery })
    }
    afterEach(function () {
      return app.end(this.currentTest?.state === "passed")
    })

    it("stores nothing of the refused request with the COMMIT of the connection's next user", async () => {
      await start(1)
      const refused = await app.ask("POST", "/json?text=refused&seconds=0.7", 3_000)
      expect(refused.reply.status).to.be.at.least(500)
      expect((await app.ask("POST", "/json?text=good", 3_000)).reply.status).to.equal(200)
      await eventually("the server is quiet", async () => (await app.rows(BUSY)).length === 0)
      expect(await texts(app)).to.deep.equal(["good"])
    })

    it("stores nothing of it where the statement was not the first of its session", async () => {
      await start(1)
      app.work = async (db, ctx) => {
        if (ctx.query.seconds !== undefined) await db.insert(Note, { text: "refused before" })
        return byQuery(db, ctx)
      }
      const refused = await app.ask("POST", "/json?text=refused&seconds=0.7", 3_000)
      expect(refused.reply.status).to.be.at.least(500)
      expect((await app.ask("POST", "/json?text=good", 3_000)).reply.status).to.equal(200)
      await eventually("the server is quiet", async () => (await app.rows(BUSY)).length === 0)
      expect(await texts(app)).to.deep.equal(["good"])
    })

    it("stores nothing of a request that catches it and goes on", async () => {
      await start(1)
      app.work = async (db, ctx) => {
        if (ctx.query.seconds === undefined) return insert(db, ctx)
        await insertSlowly(db, ctx).catch(() => undefined)
        await db.insert(Note, { text: "after" }).catch(() => undefined)
        return { ok: true }
      }
      const refused = await app.ask("POST", "/json?text=refused&seconds=0.7", 3_000)
      expect(refused.reply.status).to.be.at.least(500)
      expect((await app.ask("POST", "/json?text=good", 3_000)).reply.status).to.equal(200)
      await eventually("the server is quiet", async () => (await app.rows(BUSY)).length === 0)
      expect(await texts(app)).to.deep.equal(["good"])
    })

    it("ends the connection where it is the ROLLBACK that is not answered", async () => {
      await start(1)
      const { work } = app
      app.work = async (db, ctx) => {
        await insert(db, ctx)
        app.network.on(/^ROLLBACK/, "lose statement")
        throw new HttpError(418, "short and stout")
      }
      expect((await app.ask("POST", "/json?text=refused", 3_000)).reply.status).to.equal(418)
      await expectNothingHeld(app)
      app.work = work
      expect((await app.ask("POST", "/json?text=good", 3_000)).reply.status).to.equal(200)
      app.network.resume()
      await eventually("the server is quiet", async () => (await app.rows(BUSY)).length === 0)
      expect(await texts(app)).to.deep.equal(["good"])
    })

    it("ends the connection where it is the end of a transaction() block that is not answered", async () => {
      await start(1)
      const { work } = app
      app.work = async (db, ctx) => {
        await insert(db, ctx)
        app.network.on(/^RELEASE/, "lose statement")
        await db.transaction((inner) => inner.insert(Note, { text: "refused inside" }))
        return { ok: true }
      }
      expect((await app.ask("POST", "/json?text=refused", 3_000)).reply.status).to.be.at.least(500)
      await expectNothingHeld(app)
      app.work = work
      expect((await app.ask("POST", "/json?text=good", 3_000)).reply.status).to.equal(200)
      app.network.resume()
      await eventually("the server is quiet", async () => (await app.rows(BUSY)).length === 0)
      expect(await texts(app)).to.deep.equal(["good"])
    })

    it("stores what was answered with 200 and nothing else in mixed traffic", async () => {
      await start(5)
      const answers = await Promise.all(
        Array.from({ length: 40 }, async (_, index) => {
          const slow = index % 3 === 0 ? "&seconds=0.7" : ""
          const text = `note ${String(index).padStart(2, "0")}`
          const { reply } = await app.ask("POST", `/json?text=${encodeURIComponent(text)}${slow}`, 6_000)
          return { text, status: reply.status }
        }),
      )
      await eventually("the server is quiet", async () => (await app.rows(BUSY)).length === 0)
      const accepted = answers.filter(({ status }) => status === 200).map(({ text }) => text)
      expect(accepted).to.have.length(26)
      expect(await texts(app)).to.deep.equal(accepted)
      await expectNothingHeld(app)
    })
  },
)

describeOnEach("the server refuses what is sent with the begin", postgresOnly, (database) => {
  let app: NetworkApp
  beforeEach(async () => {
    app = await startNetworkApp(database, {
      maker: { poolSize: 1 },
      sessions: { variables: (ctx) => ({ TimeZone: String(ctx.query.zone ?? "UTC") }) },
      work: (db, ctx) => db.query(String(ctx.query.sql)),
    })
  })
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  const several = encodeURIComponent("SELECT 1 AS one; SELECT 2 AS two")
  const one = encodeURIComponent("SELECT 1 AS one")

  for (const [kind, sql] of [
    ["several statements in one text", several],
    ["one statement", one],
  ] as const) {
    it(`answers with an error and gives the next requests a clean connection, with ${kind} as the first`, async () => {
      for (let round = 0; round < 2; round++) {
        const refused = await app.ask("GET", `/json?zone=Nowhere/Land&sql=${sql}`, 2_000)
        expect(refused.reply.status).to.be.at.least(400)
        for (const next of [one, several, one]) {
          expect((await app.ask("GET", `/json?sql=${next}`, 2_000)).reply.status).to.equal(200)
        }
        await eventually("no backend is left in a transaction", async () => (await app.rows(BUSY)).length === 0)
      }
      await expectNothingHeld(app)
    })
  }
})

describeOnEach("COPY FROM STDIN, for which nobody has data", postgresOnly, (database) => {
  let app: NetworkApp
  beforeEach(async () => {
    app = await startNetworkApp(database, { maker: { poolSize: 1 } })
  })
  afterEach(function () {
    return app.end(this.currentTest?.state === "passed")
  })

  const copy = "COPY note (text) FROM STDIN"
  const cases: readonly (readonly [string, Work])[] = [
    ["the first statement", (db) => db.query(copy)],
    ["the first statement, with a list of no parameters", (db) => db.query(copy, [])],
    [
      "a later statement",
      async (db) => {
        await db.query("SELECT 1")
        return db.query(copy)
      },
    ],
    [
      "the first statement of a block",
      (db) =>
        db.transaction(async (inner) => {
          await inner.query(copy)
        }),
    ],
  ]
  for (const [place, work] of cases) {
    it(`fails at once as ${place}, and the connection's place comes back`, async () => {
      app.work = work
      const { reply, tookMs } = await app.ask("POST", "/json", 2_000)
      expect(reply.status).to.be.at.least(400)
      expect(tookMs).to.be.below(1_000)
      await expectNothingHeld(app)
      app.work = insert
      expect((await app.ask("POST", "/json?text=next", 2_000)).reply.status).to.equal(200)
      expect(await texts(app)).to.deep.equal(["next"])
    })
  }
})

describeOnEach("an account with a MAX_STATEMENT_TIME of its own", mysqlOnly, (database) => {
  const account = `limited_${process.pid}`
  let app: NetworkApp
  let admin: SecondConnection
  let isMariaDb = false

  before(async () => {
    isMariaDb = /mariadb/i.test(await database.version())
  })
  beforeEach(async function () {
    if (!isMariaDb) return this.skip()
    const created = await database.createDatabase()
    admin = await created.open()
    await admin.query(`CREATE OR REPLACE USER '${account}'@'%' IDENTIFIED BY 'secret' WITH MAX_STATEMENT_TIME 7`)
    await admin.query(`GRANT ALL ON ${new URL(created.uri).pathname.slice(1)}.* TO '${account}'@'%'`)
    const uri = new URL(created.uri)
    uri.username = account
    uri.password = "secret"
    const asAccount = { ...database, createDatabase: async () => ({ ...created, uri: uri.href }) }
    app = await startNetworkApp(asAccount, { maker: { poolSize: 1 } })
  })
  afterEach(async function () {
    if (!isMariaDb) return
    await admin.query(`DROP USER IF EXISTS '${account}'@'%'`)
    await app.end(this.currentTest?.state === "passed")
  })

  const limit = async (timeoutMs?: number) => {
    const options = timeoutMs === undefined ? {} : { timeoutMs }
    const rows = await app.maker.run(
      (db) => db.query(`SELECT @@max_statement_time AS seconds, t.id FROM (${connectionIdSql("mysql")}) t`),
      options,
    )
    return Number(rows[0].seconds)
  }

  it("keeps it for later users of a connection whose session had timeoutMs", async () => {
    expect(await limit()).to.equal(7)
    expect(await limit(500)).to.equal(0.5)
    expect(await limit()).to.equal(7)
  })

  it("keeps it where that session was rolled back, and where its statement ran out of time", async () => {
    const columns = "information_schema.columns"
    const slow = `SELECT count(*) FROM ${columns} a, ${columns} b, ${columns} c`
    const undone = app.maker.run(
      async (db) => {
        await db.query("SELECT 1")
        throw new Error("undone")
      },
      { timeoutMs: 500 },
    )
    await expect(undone).to.be.rejectedWith("undone")
    expect(await limit()).to.equal(7)
    await expect(app.maker.run((db) => db.query(slow), { timeoutMs: 200 })).to.be.rejected
    expect(await limit()).to.equal(7)
  })
})
