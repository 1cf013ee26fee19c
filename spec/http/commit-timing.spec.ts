import { expect } from "chai"
import type Koa from "koa"
import { HttpError } from "routing-controllers"
import { getSession } from "../../src/koa/sessions"
import { describeOnEach, prepared, type TestDatabase } from "../support/databases"
import { Deferred } from "../support/deferred"
import { Note, Remark } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

type Timing = "auto" | "before-response" | "after-response" | "manual"

const insert: Work = async (db) => {
  await db.insert(Note, { text: "a" })
  return { ok: true }
}
const read: Work = async (db) => ({ count: await db.count(Note) })

/** Its foreign key is broken, which the database finds at COMMIT. */
const failLate: Work = async (db) => {
  await db.insert(Remark, { noteId: 77 })
  return { ok: true }
}

const wires = httpDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("commit", httpDatabases, (database) => {
  let server: SessionApp
  afterEach(() => server.stop())
  const start = async (commit: Timing, options: Parameters<typeof startSessionApp>[1] = {}) => {
    server = await startSessionApp(database, { ...options, sessions: { commit } })
    return server
  }

  for (const commit of ["auto", "before-response"] as const) {
    for (const defaultErrorHandler of [true, false]) {
      const mode = `"${commit}", default error handler ${defaultErrorHandler ? "on" : "off"}`

      it(`${mode}: a COMMIT that fails is a 409 as a throw in the action would be`, async () => {
        await start(commit, { defaultErrorHandler, work: failLate })
        const reply = await server.http.post("/json")
        await server.settled()
        expect(reply.status).to.equal(409)
        expect(reply.headers.location).to.equal(undefined)
        if (defaultErrorHandler) expect(reply.json()).to.have.keys("name", "message")
        expect(reply.text).to.not.match(/remark|COMMIT|constraint|noteId/i)
        expect(await server.rows("SELECT * FROM remark")).to.deep.equal([])
        expect(server.log.verbs().slice(0, 3)).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
      })
    }

    it(`"${commit}": the connection of a failed COMMIT is clean for the next request`, async () => {
      await start(commit, { work: failLate, maker: { poolSize: 1 } })
      await server.http.post("/json")
      server.work = insert
      const reply = await server.http.post("/json")
      expect(reply.status).to.equal(200)
      expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "a" }])
    })

    it(`"${commit}": a COMMIT that fails takes a redirect back`, async () => {
      await start(commit, {
        work: async (db, ctx) => {
          await failLate(db, ctx)
          ctx.redirect("/elsewhere")
          return ctx
        },
      })
      const reply = await server.http.post("/json")
      expect(reply.status).to.equal(409)
      expect(reply.headers.location).to.equal(undefined)
      expect(reply.json()).to.have.keys("name", "message")
    })
  }

  it('"after-response": a COMMIT that fails is emitted as "error", the client has its answer, the process lives', async () => {
    await start("after-response", { work: failLate })
    const reply = await server.http.post("/json")
    const { error, ctx } = await server.errors.next()
    await server.settled()
    expect(reply.status).to.equal(200)
    expect(reply.json()).to.deep.equal({ ok: true })
    expect(error).to.have.property("name", "QueryFailedError")
    expect(ctx).to.have.property("path", "/json")
    expect(await server.rows("SELECT * FROM remark")).to.deep.equal([])
    server.work = insert
    expect((await server.http.post("/json")).status).to.equal(200)
  })

  it('"after-response": commits once the body is flushed', async () => {
    await start("after-response", { work: insert })
    const reply = await server.http.post("/json")
    await server.settled()
    expect(reply.status).to.equal(200)
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
    expect(server.errors.errors()).to.deep.equal([])
  })

  it('"manual": keeps what commit() was called for and rolls the rest back', async () => {
    await start("manual", {
      work: async (db) => {
        await db.insert(Note, { text: "kept" })
        await db.commit()
        await db.insert(Note, { text: "dropped" })
        return { ok: true }
      },
    })
    await server.http.post("/json")
    await server.settled()
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT", "BEGIN", "INSERT", "ROLLBACK"])
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "kept" }])
  })

  it('"auto": sends no COMMIT where the action committed by hand and did nothing since', async () => {
    await start("auto", {
      work: async (db) => {
        await db.insert(Note, { text: "a" })
        await db.commit()
        return { ok: true }
      },
    })
    await server.http.post("/json")
    await server.settled()
    expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "COMMIT"])
  })

  it("gives application error middleware the mapped HttpError of a COMMIT that failed", async () => {
    const seen: unknown[] = []
    await start("auto", {
      work: failLate,
      defaultErrorHandler: false,
      prepare: (app) => {
        app.use(async (ctx: Koa.Context, next: Koa.Next) => {
          try {
            await next()
          } catch (error) {
            seen.push(error)
            ctx.status = 499
            ctx.body = "handled"
          }
        })
      },
    })
    const reply = await server.http.post("/json")
    expect([reply.status, reply.text]).to.deep.equal([499, "handled"])
    expect(seen).to.have.length(1)
    expect(seen[0]).to.be.instanceOf(HttpError).and.include({ httpCode: 409 })
    expect((seen[0] as Error).cause).to.have.property("name", "QueryFailedError")
  })

  it("runs afterCommit functions before the answer, and reports one that throws", async () => {
    const order: string[] = []
    await start("auto", {
      work: async (db) => {
        db.afterCommit(() => {
          order.push("first")
          throw new Error("The hook failed.")
        })
        db.afterCommit(async () => {
          order.push("second")
        })
        db.afterRollback(() => order.push("never"))
        return insert(db, undefined as never)
      },
    })
    const reply = await server.http.post("/json")
    expect(reply.status).to.equal(200)
    expect(order).to.deep.equal(["first", "second"])
    expect(server.errors.errors().map(String)).to.deep.equal(["Error: The hook failed."])
    expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "a" }])
  })
})

describeOnEach("commit, seen from the wire", wires, (database) => {
  let server: SessionApp
  afterEach(() => server.stop())

  /**
   * The answer to a COMMIT takes as long as the gate: the client sees whether the response waits for it. Without
   * `deferBegin`, so that a plain read has a COMMIT, too.
   */
  async function answersBeforeCommit(commit: Timing, work: Work, options: Trial = {}): Promise<boolean> {
    const { method = "GET", on = database, isolation } = options
    server = await startSessionApp(on, {
      work,
      sessions: { commit, deferBegin: false, ...(isolation && { isolation }) },
    })
    const gate = new Deferred()
    const dataSource = await server.maker.dataSource()
    const pool = (dataSource.driver as unknown as { master: { connect(): Promise<{ query: Gated; release(): void }> } })
      .master
    const client = await pool.connect()
    const { query } = client
    client.query = function gated(this: unknown, ...args: Parameters<Gated>): unknown {
      if (args[0] !== "COMMIT") return query.apply(this, args)
      gate.promise.then(() => query.apply(this, args))
      return undefined
    }
    client.release()
    const started = server.http.startRequest("/json", { method })
    const first = await Promise.race([
      started.reply().then(() => "answer"),
      new Promise<string>((resolve) => setTimeout(resolve, 300, "gate")),
    ])
    gate.resolve()
    await started.reply().catch(() => undefined)
    await server.settled()
    expect(server.log.verbs()).to.include("COMMIT")
    expect(server.errors.errors()).to.deep.equal([])
    return first === "answer"
  }
  type Gated = (...args: unknown[]) => unknown
  interface Trial {
    readonly method?: string
    readonly on?: TestDatabase
    readonly isolation?: "SERIALIZABLE"
  }

  it('"auto": a session that wrote answers after its COMMIT', async () => {
    expect(await answersBeforeCommit("auto", insert)).to.equal(false)
  })
  it('"auto": a session that only read answers before its COMMIT', async () => {
    expect(await answersBeforeCommit("auto", read)).to.equal(true)
  })
  it('"auto": a SELECT that may write counts as a write', async () => {
    const lock: Work = async (db) =>
      db.createQueryBuilder().select("pg_advisory_xact_lock(1)", "lock").from(Note, "note").getRawMany()
    expect(await answersBeforeCommit("auto", lock)).to.equal(false)
  })
  it('"auto": a SELECT of raw SQL may write, whatever it says: it answers after its COMMIT', async () => {
    const select: Work = async (db) => db.query("SELECT text FROM note")
    expect(await answersBeforeCommit("auto", select)).to.equal(false)
  })
  it('"auto": a POST that only read answers before its COMMIT', async () => {
    expect(await answersBeforeCommit("auto", read, { method: "POST" })).to.equal(true)
  })
  it('"before-response": a session that only read answers after its COMMIT', async () => {
    expect(await answersBeforeCommit("before-response", read)).to.equal(false)
  })
  it('"after-response": a session that wrote answers before its COMMIT', async () => {
    expect(await answersBeforeCommit("after-response", insert)).to.equal(true)
  })

  it('"auto": a SERIALIZABLE session that only read answers after its COMMIT', async () => {
    expect(await answersBeforeCommit("auto", read, { isolation: "SERIALIZABLE" })).to.equal(false)
  })

  for (const [isolation, isBefore] of [
    ["serializable", false],
    ["repeatable read", true],
  ] as const) {
    const when = isBefore ? "before" : "after"
    it(`"auto": one that only read answers ${when} its COMMIT where ALTER DATABASE made ${isolation} the default`, async () => {
      const on = prepared(
        database,
        `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''${isolation}''', current_database()); END $$`,
      )
      expect(await answersBeforeCommit("auto", read, { on })).to.equal(isBefore)
      expect(server.log.statements()[0]).to.equal("BEGIN")
    })
  }

  it("gives middleware a new session while the COMMIT of the one before is under way", async () => {
    server = await startSessionApp(database, {
      work: read,
      sessions: { deferBegin: false },
      extend: (app) => {
        app.middleware.splice(1, 0, async (ctx: Koa.Context, next: Koa.Next) => {
          await next()
          while (!server.log.verbs().includes("COMMIT")) await new Promise((resolve) => setImmediate(resolve))
          const db = await getSession(ctx)
          ctx.body = { count: await db.count(Note) }
        })
      },
    })
    server.wire?.setDelay(50)
    const reply = await server.http.get("/json")
    server.wire?.setDelay(0)
    await server.settled()
    expect(reply.json()).to.deep.equal({ count: 0 })
    expect(server.log.verbs()).to.have.members(["BEGIN", "SELECT", "COMMIT", "BEGIN", "SELECT", "COMMIT"])
    expect(server.errors.errors()).to.deep.equal([])
  })

  it('"auto": a read whose begin is not put off costs one round trip before the answer', async () => {
    server = await startSessionApp(database, { work: read, sessions: { deferBegin: false } })
    await server.http.get("/json")
    await server.settled()
    server.log.clear()
    server.wire?.setDelay(100)
    const startedAt = performance.now()
    await server.http.get("/json")
    expect(performance.now() - startedAt).to.be.within(190, 380)
    server.wire?.setDelay(0)
    await server.settled()
    expect(server.wire?.flights()).to.equal(2)
  })
})
