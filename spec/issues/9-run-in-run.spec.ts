import { expect } from "chai"
import { QueryFailedError } from "typeorm"
import type { Session } from "../../src/session/session"
import { describeOnEach, testDatabases } from "../support/databases"
import { Note, useSessions } from "../support/session-fixture"

/** Databases on which one session can write while another is open. */
const servers = testDatabases.filter(({ kind }) => kind !== "sqlite")

describeOnEach("maker.run({ retries }) around work that is committed on its own", servers, (database) => {
  const fixture = useSessions(database)
  const deadlock =
    database.kind === "mysql"
      ? "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213"
      : "DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$"

  async function callsOf(inner: () => Promise<unknown>): Promise<number> {
    let calls = 0
    const outer = fixture.maker.run(
      async (db) => {
        calls++
        await inner()
        await db.query(deadlock)
      },
      { retries: 2 },
    )
    await expect(outer).to.be.rejectedWith(QueryFailedError)
    return calls
  }

  const insert = (db: Session) => db.query("INSERT INTO counter (id, value) SELECT COUNT(*) + 1, 1 FROM counter")
  const stored = async () => (await fixture.rows("SELECT id FROM counter")).length

  it("is not called again once an inner run() has committed", async () => {
    expect(await callsOf(() => fixture.maker.run(insert))).to.equal(1)
    expect(await stored()).to.equal(1)
  })

  it("is not called again once a session opened by hand has committed", async () => {
    const openAndCommit = async () => {
      await using db = await fixture.maker.open()
      await insert(db)
      await db.commit()
    }
    expect(await callsOf(openAndCommit)).to.equal(1)
    expect(await stored()).to.equal(1)
  })

  it("is called again where the inner run() has only read, or was rolled back", async () => {
    expect(await callsOf(() => fixture.maker.run((db) => db.find(Note)))).to.equal(3)
    const undone = async (db: Session) => {
      await insert(db)
      throw new Error("undone")
    }
    expect(await callsOf(() => fixture.maker.run(undone).catch(() => undefined))).to.equal(3)
    expect(await stored()).to.equal(0)
  })
})
