import { expect } from "chai"
import type Koa from "koa"
import { HttpError } from "routing-controllers"
import { describeOnEach } from "../support/databases"
import { listen } from "../support/http"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

interface Row {
  readonly title: string
  readonly work: Work
  readonly status: number
  /** what a client sees where routing-controllers' default error handler is off, if it differs */
  readonly bareStatus?: number
  readonly end: "COMMIT" | "ROLLBACK"
  readonly kept: readonly string[]
}

const save: Work = (db) => db.insert(Note, { text: "kept?" })

const rows: readonly Row[] = [
  {
    title: "commits when the action returns with a status below 400",
    work: async (db) => {
      await db.insert(Note, { text: "a" })
      return { ok: true }
    },
    status: 200,
    end: "COMMIT",
    kept: ["a"],
  },
  {
    title: "rolls back when the action throws",
    work: async (db, ctx) => {
      await save(db, ctx)
      throw new Error("The action failed.")
    },
    status: 500,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "rolls back when the action throws an HttpError",
    work: async (db, ctx) => {
      await save(db, ctx)
      throw new HttpError(418, "short and stout")
    },
    status: 418,
    bareStatus: 500,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "rolls back when the action throws what is no error",
    work: async (db, ctx) => {
      await save(db, ctx)
      throw "a string"
    },
    status: 500,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "rolls back when the action returns undefined, which is a 404",
    work: async (db, ctx) => {
      await save(db, ctx)
    },
    status: 404,
    bareStatus: 500,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "commits when the action returns null, which is a 204",
    work: async (db, ctx) => {
      await save(db, ctx)
      return null
    },
    status: 204,
    end: "COMMIT",
    kept: ["kept?"],
  },
  {
    title: "rolls back when a status of 400 or above is set without throwing",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.status = 422
      return { error: "no" }
    },
    status: 422,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "rolls back and answers 500 when the result holds a BigInt",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.body = { big: 1n }
      return ctx
    },
    status: 500,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "rolls back and answers 500 when the result holds a circle",
    work: async (db, ctx) => {
      await save(db, ctx)
      const circle: { self?: unknown } = {}
      circle.self = circle
      ctx.body = circle
      return ctx
    },
    status: 500,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "rolls back when toJSON() of the result throws",
    work: async (db, ctx) => {
      await save(db, ctx)
      ctx.body = {
        toJSON() {
          throw new Error("The result cannot be shown.")
        },
      }
      return ctx
    },
    status: 500,
    end: "ROLLBACK",
    kept: [],
  },
  {
    title: "keeps what was committed by hand when the action then throws",
    work: async (db) => {
      await db.insert(Note, { text: "first" })
      await db.commit()
      await db.insert(Note, { text: "second" })
      throw new Error("The action failed.")
    },
    status: 500,
    end: "ROLLBACK",
    kept: ["first"],
  },
]

describeOnEach("outcome of a request", httpDatabases, (database) => {
  for (const defaultErrorHandler of [true, false]) {
    describe(`with routing-controllers' default error handler ${defaultErrorHandler ? "on" : "off"}`, () => {
      let server: SessionApp
      beforeEach(async () => {
        server = await startSessionApp(database, { defaultErrorHandler })
      })
      afterEach(() => server.stop())

      const texts = async () => (await server.rows("SELECT text FROM note ORDER BY id")).map(({ text }) => text)

      for (const { title, work, status, bareStatus = status, end, kept } of rows) {
        for (const path of ["/json", "/text"]) {
          it(`${title} (${path})`, async () => {
            server.work = work
            const reply = await server.http.post(path)
            await server.settled()
            const verbs = server.log.verbs()
            expect(reply.status).to.equal(defaultErrorHandler ? status : bareStatus)
            expect(verbs[0]).to.equal("BEGIN")
            expect(verbs.at(-1)).to.equal(end)
            expect(await texts()).to.deep.equal(kept)
          })
        }
      }

      it("undoes or refuses what the failed action did not await", async () => {
        let late: Promise<unknown> = Promise.resolve()
        let goOn: () => void = () => undefined
        const gate = new Promise<void>((resolve) => {
          goOn = resolve
        })
        server.work = async (db) => {
          await db.insert(Note, { text: "first" })
          late = gate.then(() => db.insert(Note, { text: "late" }))
          late.catch(() => undefined)
          db.insert(Note, { text: "forgotten" }).catch(() => undefined)
          throw new Error("The action failed.")
        }
        const reply = await server.http.post("/json")
        goOn()
        await expect(late).to.be.rejectedWith("is closed").and.eventually.include({ code: "ERR_SESSION_CLOSED" })
        await server.settled()
        expect(reply.status).to.equal(500)
        expect(server.log.verbs()).to.not.include("COMMIT")
        expect(await texts()).to.deep.equal([])
        const [refused] = server.errors.errors().filter((error) => (error as { code?: string }).code !== undefined)
        expect(refused).to.have.property("message").that.includes("POST /json")
      })

      it("commits what an action that returned did not await", async () => {
        server.work = (db) => {
          void db.save(Note, [{ text: "one" }, { text: "two" }])
          return { ok: true }
        }
        const reply = await server.http.post("/json")
        await server.settled()
        expect(reply.status).to.equal(200)
        expect(await texts()).to.deep.equal(["one", "two"])
        expect(server.errors.errors()).to.deep.equal([])
      })

      it("commits what it did not await and what begins only some promises later", async () => {
        server.work = async (db) => {
          const save = async () => {
            for (let hop = 0; hop < 200; hop++) await null
            await db.insert(Note, { text: "late" })
          }
          void save()
          return { ok: true }
        }
        const reply = await server.http.post("/json")
        await server.settled()
        expect(reply.status).to.equal(200)
        expect(await texts()).to.deep.equal(["late"])
        expect(server.errors.errors()).to.deep.equal([])
      })

      it("rolls back when middleware after the action throws", async () => {
        const after = await startSessionApp(database, {
          defaultErrorHandler,
          extend: (app) => {
            app.use(async () => {
              throw new Error("The middleware after the action failed.")
            })
          },
          work: async (db) => {
            await db.insert(Note, { text: "a" })
            return { ok: true }
          },
        })
        try {
          const reply = await after.http.post("/json")
          await after.settled()
          expect(reply.status).to.equal(500)
          expect(after.log.verbs().at(-1)).to.equal("ROLLBACK")
          expect(await after.rows("SELECT * FROM note")).to.deep.equal([])
        } finally {
          await after.stop()
        }
      })

      it("does not reopen for a statement after the response", async () => {
        let kept: Parameters<Work>[0] | undefined
        server.work = (db) => {
          kept = db
          return "done"
        }
        await server.http.post("/json")
        await server.settled()
        await expect(kept?.insert(Note, { text: "late" })).to.be.rejectedWith("POST /json")
        expect(server.log.verbs()).to.deep.equal([])
        expect(server.errors.all().map(({ ctx }) => ctx?.path)).to.deep.equal(["/json"])
      })
    })
  }

  describe("with application code around it", () => {
    const start = (options: Parameters<typeof startSessionApp>[1]) => startSessionApp(database, options)

    it("rolls back what an application's own error middleware turned into a 2xx", async () => {
      const server = await start({
        defaultErrorHandler: false,
        work: async (db) => {
          await db.insert(Note, { text: "a" })
          throw new Error("The action failed.")
        },
      })
      const { middleware } = server.app
      middleware.splice(1, 0, async (ctx: Koa.Context, next: Koa.Next) => {
        try {
          await next()
        } catch {
          ctx.body = { fine: true }
        }
      })
      try {
        const http = await listen(server.app)
        const reply = await http.post("/json")
        await http.close()
        await server.settled()
        expect(reply.status).to.equal(200)
        expect(reply.json()).to.deep.equal({ fine: true })
        expect(server.log.verbs()).to.deep.equal(["BEGIN", "INSERT", "ROLLBACK"])
        expect(await server.rows("SELECT * FROM note")).to.deep.equal([])
      } finally {
        await server.stop()
      }
    })

    it("asks rollbackWhen() instead of the status", async () => {
      const server = await start({
        sessions: { rollbackWhen: (ctx) => ctx.status === 202 },
        work: async (db, ctx) => {
          await db.insert(Note, { text: String(ctx.query.text) })
          ctx.status = Number(ctx.query.status)
          return { ok: true }
        },
      })
      try {
        await server.http.post("/json?text=refused&status=202")
        await server.http.post("/json?text=kept&status=422")
        await server.settled()
        expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "kept" }])
      } finally {
        await server.stop()
      }
    })
  })
})
