import { expect } from "chai"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { takeIncidents } from "../support/incidents"
import { startSessionApp } from "../support/session-app"
import { shared } from "./support/databases"

describeOnEach("an afterCommit function fails", shared, (database) => {
  const failing: Record<string, () => unknown> = {
    throws: () => {
      throw new Error("The hook failed.")
    },
    rejects: async () => {
      throw new Error("The hook failed.")
    },
    "throws what is no error": () => {
      throw "The hook failed."
    },
  }

  for (const [how, hook] of Object.entries(failing)) {
    for (const commit of ["auto", "after-response"] as const) {
      it(`because it ${how}: committed, 2xx, the others run, the error is emitted (commit: "${commit}")`, async () => {
        const server = await startSessionApp(database, { sessions: { commit } })
        try {
          const ran: string[] = []
          server.work = async (db) => {
            db.afterCommit(() => ran.push("first"))
            db.afterCommit(hook)
            db.afterCommit(() => ran.push("last"))
            await db.insert(Note, { text: "kept" })
            return { ok: true }
          }
          expect((await server.http.post("/json")).status).to.equal(200)
          await server.settled()
          const { error, ctx } = await server.errors.next()
          expect(String(error)).to.include("The hook failed.")
          expect(ctx?.path).to.equal("/json")
          expect(server.errors.errors()).to.have.length(1)
          expect(ran).to.deep.equal(["first", "last"])
          expect(await server.rows("SELECT text FROM note")).to.deep.equal([{ text: "kept" }])
          expect(takeIncidents()).to.deep.equal([])
        } finally {
          await server.stop()
        }
      })
    }
  }
})
