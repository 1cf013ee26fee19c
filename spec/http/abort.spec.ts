import { expect } from "chai"
import { engineOf } from "../../src/engine/engine"
import { describeOnEach } from "../support/databases"
import { type SessionApp, startSessionApp } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

const postgres = httpDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("a client that leaves during a slow statement", postgres, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: 1 } })
    await server.rows(
      "CREATE FUNCTION slow(seconds float) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(seconds); RETURN 1; END $$",
    )
    // A plain read that is slow: a view hides the function.
    await server.rows("CREATE VIEW slow_view AS SELECT slow(5) AS one")
    await server.rows("CREATE VIEW brief_view AS SELECT slow(0.25) AS one")
    await server.rows("CREATE VIEW medium_view AS SELECT slow(0.6) AS one")
  })
  afterEach(() => server.stop())

  const isRunning = async (view: string) => {
    const rows = await server.rows(
      `SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%${view}%' AND pid <> pg_backend_pid()`,
    )
    return rows.length > 0
  }

  async function until(isTrue: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (!(await isTrue())) {
      if (performance.now() > deadline) throw new Error("It never came true.")
    }
  }

  it("has it cancelled in the database where the session only read", async () => {
    server.work = (db) => db.query("SELECT one FROM slow_view")
    const request = server.http.startRequest("/json")
    await until(() => isRunning("slow_view"), 2_000)
    request.destroy()
    await until(async () => !(await isRunning("slow_view")), 200)
    await server.settled()
    server.work = (db) => db.query("SELECT 1 AS one")
    expect((await server.http.get("/json")).json()).to.deep.equal([{ one: 1 }])
    expect(server.errors.errors()).to.deep.equal([])
  })

  it("has it run to its end where the session wrote", async () => {
    server.work = async (db) => {
      await db.query("INSERT INTO note (text) VALUES ('a')")
      return db.query("SELECT one FROM brief_view")
    }
    const request = server.http.startRequest("/json", { method: "POST" })
    await until(() => isRunning("brief_view"), 2_000)
    request.destroy()
    await server.settled()
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "a" }])
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "SELECT", "COMMIT"])
  })

  it("does not have the next request's statement cancelled in its place", async () => {
    server.work = (db, ctx) => db.query(`SELECT one FROM ${ctx.query.view}`)
    await server.http.get("/json?view=brief_view")
    await server.settled()
    const engine = engineOf(await server.maker.dataSource()) as unknown as { cancel(client: unknown): Promise<void> }
    const { cancel } = engine
    engine.cancel = async (client) => {
      await until(async () => !(await isRunning("brief_view")), 2_000)
      // Long enough for the connection to have gone to the next session.
      await until(() => isRunning("medium_view"), 300).catch(() => undefined)
      await cancel.call(engine, client)
    }
    const request = server.http.startRequest("/json?view=brief_view")
    const next = server.http.get("/json?view=medium_view")
    await until(() => isRunning("brief_view"), 2_000)
    request.destroy()
    expect((await next).status).to.equal(200)
  })
})
