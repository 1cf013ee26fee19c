import { expect } from "chai"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"

describeOnEach("testDatabases", testDatabases, (database) => {
  let created: CreatedDatabase

  beforeEach(async () => {
    created = await database.createDatabase()
  })

  afterEach(async () => {
    await created.drop()
  })

  if (database.isFile === false) {
    it("refuses a second connection", async () => {
      await expect(created.open()).to.be.rejectedWith("nobody else can see it")
    })
    return
  }

  it("gives each call an empty database of its own", async () => {
    const other = await database.createDatabase()
    try {
      const first = await created.open()
      await first.query("CREATE TABLE note (id integer)")
      const second = await other.open()
      await expect(second.query("SELECT * FROM note")).to.be.rejectedWith(Error)
    } finally {
      await other.drop()
    }
  })

  it("shows a second connection what the first committed, and not before", async () => {
    const [writer, reader] = [await created.open(), await created.open()]
    await writer.query("CREATE TABLE note (id integer)")
    await writer.query("BEGIN")
    await writer.query("INSERT INTO note VALUES (1)")
    expect(await reader.query("SELECT count(*) AS n FROM note")).to.satisfy(isCount(0))
    await writer.query("COMMIT")
    expect(await reader.query("SELECT count(*) AS n FROM note")).to.satisfy(isCount(1))
  })

  it("drops a database that a transaction holds open", async () => {
    const doomed = await database.createDatabase()
    const connection = await doomed.open()
    await connection.query("CREATE TABLE note (id integer)")
    await connection.query("BEGIN")
    await connection.query("INSERT INTO note VALUES (1)")
    await doomed.drop()
    await expect(connection.query("SELECT 1")).to.be.rejectedWith(Error)
  })
})

function isCount(expected: number): (rows: Record<string, unknown>[]) => boolean {
  return ([row]) => Number(row?.n) === expected
}
