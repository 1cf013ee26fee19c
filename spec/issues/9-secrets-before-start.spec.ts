import { inspect } from "node:util"
import { expect } from "chai"
import { SessionMaker } from "../../src/session/session-maker"
import { Note } from "../support/http-entities"

describe("A SessionMaker that has not started, or could not", () => {
  for (const scheme of ["postgres", "mysql"]) {
    it(`shows no password in what it gives (${scheme})`, async () => {
      await using maker = new SessionMaker(`${scheme}://user:hush-hush@127.0.0.1:1/none`, { entities: [Note] })
      await maker.prepare()
      await using db = await maker.open()
      for (const hasTried of [false, true]) {
        if (hasTried) await expect(db.query("SELECT 1")).to.be.rejected
        for (const shown of [db, db.dataSource, db.dataSource.driver, db.queryRunner, db.getRepository(Note)]) {
          expect(inspect(shown, { depth: 8 })).not.to.include("hush-hush")
        }
      }
    })
  }
})
