import { tmpdir } from "node:os"
import { inspect } from "node:util"
import { expect } from "chai"
import { type DataSource, QueryFailedError } from "typeorm"
import { type FailureKind, failureKind } from "../../src/engine/failure-kind"
import { DatabaseUnavailableError } from "../../src/errors"
import { SessionMaker } from "../../src/session/session-maker"
import { type DatabaseKind, describeOnEach } from "../support/databases"
import { sessionDatabases } from "../support/session-databases"
import { useSessions } from "../support/session-fixture"

const tables: Record<DatabaseKind, readonly string[]> = {
  sqlite: [
    "CREATE TABLE parent (id integer PRIMARY KEY)",
    `CREATE TABLE child (id integer PRIMARY KEY, parent_id integer REFERENCES parent (id), name text NOT NULL UNIQUE
      CHECK (length(name) < 5))`,
    "CREATE TABLE strict_child (id integer PRIMARY KEY, amount integer) STRICT",
  ],
  postgres: [
    "CREATE TABLE parent (id integer PRIMARY KEY)",
    `CREATE TABLE child (id integer PRIMARY KEY, parent_id integer REFERENCES parent (id), name varchar(5) NOT NULL UNIQUE
      CHECK (name <> 'bad'), EXCLUDE USING btree (parent_id WITH =))`,
  ],
  mysql: [
    "CREATE TABLE parent (id integer PRIMARY KEY)",
    `CREATE TABLE child (id integer PRIMARY KEY, parent_id integer, name varchar(5) NOT NULL UNIQUE CHECK (name <> 'bad'),
      FOREIGN KEY (parent_id) REFERENCES parent (id))`,
  ],
}

const everywhere: readonly [string, FailureKind][] = [
  ["INSERT INTO child VALUES (2, 1, 'one')", "conflict"],
  ["INSERT INTO child VALUES (1, 1, 'two')", "conflict"],
  ["INSERT INTO child VALUES (2, 99, 'two')", "conflict"],
  ["DELETE FROM parent", "conflict"],
  ["INSERT INTO child VALUES (2, NULL, NULL)", "malformed"],
  ["SELECT * FROM there_is_no_such_table", "other"],
  ["NONSENSE", "other"],
]

const own: Record<DatabaseKind, readonly [string, FailureKind][]> = {
  sqlite: [
    ["INSERT INTO child VALUES (2, NULL, 'far too long')", "malformed"],
    ["INSERT INTO strict_child VALUES (1, 'no number')", "malformed"],
    ["INSERT INTO parent VALUES ('no number')", "malformed"],
  ],
  postgres: [
    ["INSERT INTO child VALUES (2, 1, 'two')", "conflict"],
    ["INSERT INTO child VALUES (2, NULL, 'bad')", "malformed"],
    ["INSERT INTO child VALUES (2, NULL, 'far too long')", "malformed"],
    ["SELECT 'no number'::integer", "malformed"],
    ["SELECT 'no guid'::uuid", "malformed"],
    ["SELECT 99999999999::integer", "malformed"],
    ["SET LOCAL statement_timeout = 1; SELECT pg_sleep(5)", "statement-timeout"],
    ["SELECT pg_terminate_backend(pg_backend_pid())", "unavailable"],
  ],
  mysql: [
    ["INSERT INTO child VALUES (2, NULL, 'bad')", "malformed"],
    ["INSERT INTO child VALUES (2, NULL, 'far too long')", "malformed"],
    ["INSERT INTO child VALUES (99999999999, NULL, 'two')", "malformed"],
    ["INSERT INTO child VALUES ('no number', NULL, 'two')", "malformed"],
  ],
}

describeOnEach("failureKind()", sessionDatabases, (database) => {
  const fixture = useSessions(database)
  const { kind } = database
  let dataSource: DataSource

  beforeEach(async () => {
    dataSource = fixture.dataSource
    for (const table of ["child", "strict_child", "parent"]) await dataSource.query(`DROP TABLE IF EXISTS ${table}`)
    for (const statement of tables[kind]) await dataSource.query(statement)
    await dataSource.query("INSERT INTO parent VALUES (1)")
    await dataSource.query("INSERT INTO child VALUES (1, 1, 'one')")
  })

  for (const [statement, expected] of [...everywhere, ...own[kind]]) {
    it(`takes for "${expected}" what the database says to: ${statement.slice(0, 70)}`, async () => {
      const error = await fixture.maker.run((session) => session.query(statement)).catch((failure: unknown) => failure)
      expect(error).to.be.instanceOf(QueryFailedError)
      expect(failureKind((error as QueryFailedError).driverError), String(error)).to.equal(expected)
    })
  }

  if (kind === "postgres") {
    it('takes for "lock-timeout" what another session locks', async () => {
      await fixture.maker.run(async (holder) => {
        await holder.query("SELECT * FROM parent FOR UPDATE")
        const error = await fixture.maker
          .run((session) => session.query("SELECT * FROM parent FOR UPDATE NOWAIT"))
          .catch((failure: QueryFailedError) => failure.driverError)
        expect(failureKind(error)).to.equal("lock-timeout")
      })
    })

    it('takes for "serialization" a deadlock, of which the database undoes one', async () => {
      await dataSource.query("INSERT INTO parent VALUES (2)")
      const update = (id: number) => `UPDATE parent SET id = id WHERE id = ${id}`
      await using a = await fixture.maker.open()
      await using b = await fixture.maker.open()
      await a.query(update(1))
      await b.query(update(2))
      const crossed = await Promise.allSettled([
        a.query(update(2)).then(() => a.rollback()),
        b.query(update(1)).then(() => b.rollback()),
      ])
      const [failed] = crossed.filter((result) => result.status === "rejected")
      expect(failureKind(failed?.reason.driverError)).to.equal("serialization")
    })
  }
})

const unreachable: readonly [string, string][] = [
  ["postgres://nobody:secret-word@127.0.0.1:1/nowhere", "ECONNREFUSED"],
  ["postgres://nobody:secret-word@no-such-host.invalid/nowhere", "host name"],
  ["mysql://nobody:secret-word@127.0.0.1:1/nowhere", "ECONNREFUSED"],
  [`sqlite:///${tmpdir()}`, "SQLITE_CANTOPEN"],
]

describe("a database that cannot be reached", () => {
  for (const [uri, expected] of unreachable) {
    it(`is a DatabaseUnavailableError without secrets: ${uri.replace("secret-word", "***")}`, async () => {
      const maker = new SessionMaker(uri, { entities: [] })
      const error: Error = await maker.run((session) => session.query("SELECT 1")).catch((failure) => failure)
      expect(error).to.be.instanceOf(DatabaseUnavailableError)
      expect(error.message).to.include(expected)
      expect(inspect(error, { depth: 10 })).to.not.include("secret-word")
      await maker.close()
    })
  }
})
