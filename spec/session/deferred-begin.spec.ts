import { expect } from "chai"
import { DataSource, QueryFailedError } from "typeorm"
import { TransactionAbortedError } from "../../src/errors"
import type { Session } from "../../src/session/session"
import { SessionMaker, type SessionMakerOptions } from "../../src/session/session-maker"
import { describeOnEach } from "../support/databases"
import { httpEntities } from "../support/http-entities"
import { sessionDatabases } from "../support/session-databases"
import { Counter, Note, useSessions } from "../support/session-fixture"

const postgres = sessionDatabases.filter(({ kind }) => kind === "postgres")
const mysql = sessionDatabases.filter(({ kind }) => kind === "mysql")
const servers = sessionDatabases.filter(({ kind }) => kind !== "sqlite")
const isolation = "READ COMMITTED"

const readThenWrite = async (session: Session) => {
  await session.count(Note)
  await session.insert(Note, { text: "a" })
}

describeOnEach("plain reads before anything else, at READ COMMITTED", servers, (database) => {
  const fixture = useSessions(database, { isolation })
  /** MySQL and MariaDB have no isolation in START TRANSACTION. */
  const begin = database.kind === "mysql" ? ["SET", "BEGIN"] : ["BEGIN"]

  it("are sent without begin and commit, and count as a transaction that was committed", async () => {
    await fixture.runReader(async (session) => {
      await session.find(Note)
      await session.createQueryBuilder(Note, "note").select("note.text").where("note.id > :id", { id: 1 }).getRawMany()
      expect(session.inTransaction).to.equal(true)
    })
    expect(fixture.log.verbs()).to.deep.equal(["SELECT", "SELECT"])
    expect(fixture.maker.stats()).to.include({ committed: 1, rolledBack: 0, failed: 0, active: 0 })
  })

  it("leave the begin to the first statement that needs it", async () => {
    await fixture.runReader(async (session) => {
      await readThenWrite(session)
      await session.count(Note)
    })
    expect(fixture.log.verbs()).to.deep.equal(["SELECT", ...begin, "INSERT", "SELECT", "COMMIT"])
    expect(await fixture.texts()).to.deep.equal(["a"])
  })

  it("leave it to raw SQL, whatever it says", async () => {
    await fixture.runReader(async (session) => {
      await session.count(Note)
      await session.query("SELECT text FROM note")
    })
    expect(fixture.log.verbs()).to.deep.equal(["SELECT", ...begin, "SELECT", "COMMIT"])
  })

  it("do not leave it in a session that is expected to write: that begins with them", async () => {
    await using opened = await fixture.maker.open()
    await readThenWrite(opened)
    await opened.rollback()
    await fixture.maker.run(readThenWrite)
    const statements = [...begin, "SELECT", "INSERT"]
    expect(fixture.log.verbs()).to.deep.equal([...statements, "ROLLBACK", ...statements, "COMMIT"])
  })

  it("leave it in one of maker.run() that is readOnly", async () => {
    await fixture.maker.run((session) => session.find(Note), { readOnly: true })
    expect(fixture.log.verbs()).to.deep.equal(["SELECT"])
  })

  it("leave the READ ONLY of one to the first statement that needs it", async () => {
    const run = fixture.maker.run(readThenWrite, { readOnly: true })
    await expect(run).to.be.rejectedWith(QueryFailedError, /read.?only/i)
    // An error of MySQL comes without the status of the transaction, so that the server is asked.
    const question = database.kind === "mysql" ? ["DO"] : []
    expect(fixture.log.verbs()).to.deep.equal(["SELECT", ...begin, "INSERT", ...question, "ROLLBACK"])
    expect(fixture.log.statements().at(begin.length)).to.match(/ READ ONLY$/)
    expect(await fixture.texts()).to.deep.equal([])
  })

  it("do so anew after each commit and rollback", async () => {
    await fixture.runReader(async (session) => {
      await readThenWrite(session)
      await session.rollback()
      await session.count(Note)
      await session.rollback()
      await readThenWrite(session)
    })
    const writes = ["SELECT", ...begin, "INSERT"]
    expect(fixture.log.verbs()).to.deep.equal([...writes, "ROLLBACK", "SELECT", ...writes, "COMMIT"])
    expect(fixture.maker.stats()).to.include({ committed: 1, rolledBack: 2 })
  })

  it("leave the savepoints of their blocks to it, too", async () => {
    await fixture.runReader((session) =>
      session.transaction((outer) => outer.transaction(async (inner) => readThenWrite(inner))),
    )
    const savepoints = ["SAVEPOINT", "SAVEPOINT", "INSERT", "RELEASE", "RELEASE"]
    expect(fixture.log.verbs()).to.deep.equal(["SELECT", ...begin, ...savepoints, "COMMIT"])
  })

  it("need a begin with deferBegin: false", async () => {
    await fixture.runReader((session) => session.count(Note), { deferBegin: false })
    expect(fixture.log.verbs()).to.deep.equal([...begin, "SELECT", "COMMIT"])
  })

  describe("that fail", () => {
    /** The entity and the catalog, as it was at the start, know the column; the read finds it gone. */
    const failingRead = (session: Session) => session.find(Counter)

    beforeEach(() => fixture.rows("ALTER TABLE counter RENAME COLUMN value TO renamed"))
    afterEach(() => fixture.rows("ALTER TABLE counter RENAME COLUMN renamed TO value"))

    it("fail the transaction as others do", async () => {
      const run = fixture.runReader(async (session) => {
        await expect(failingRead(session)).to.be.rejectedWith(QueryFailedError)
        await expect(session.count(Note)).to.be.rejectedWith(TransactionAbortedError)
        await expect(Promise.resolve(session.queryRunner?.connect())).to.be.rejectedWith(TransactionAbortedError)
      })
      await expect(run).to.be.rejectedWith(TransactionAbortedError)
      expect(fixture.log.verbs()).to.deep.equal(["SELECT"])
    })

    it("fail the block that they are in, and nothing outside of it", async () => {
      await fixture.runReader(async (session) => {
        const block = session.transaction(async (inner) => {
          await expect(failingRead(inner)).to.be.rejectedWith(QueryFailedError)
        })
        await expect(block).to.be.rejectedWith(TransactionAbortedError)
        await session.insert(Note, { text: "a" })
      })
      expect(fixture.log.verbs()).to.deep.equal(["SELECT", ...begin, "INSERT", "COMMIT"])
      expect(await fixture.texts()).to.deep.equal(["a"])
    })

    it("let no block of queryRunner.startTransaction() repair what had failed before it", async () => {
      const run = fixture.runReader(async (session) => {
        await expect(failingRead(session)).to.be.rejectedWith(QueryFailedError)
        await session.queryRunner?.startTransaction()
        await session.queryRunner?.rollbackTransaction()
      })
      await expect(run).to.be.rejectedWith(TransactionAbortedError)
    })
  })

  it("do not let the driver's client out of the transaction", async () => {
    await fixture.runReader(async (session) => {
      await session.count(Note)
      const client = (await session.queryRunner?.connect()) as DriverClient
      await new Promise((resolve) => client.query("INSERT INTO note (text) VALUES ('a')", resolve))
      await session.rollback()
    })
    expect(fixture.log.verbs()).to.deep.equal(["SELECT", ...begin, "INSERT", "ROLLBACK"])
    expect(await fixture.texts()).to.deep.equal([])
  })

  it("do not let a stream out of the transaction", async () => {
    await fixture.runReader(async (session) => {
      await session.count(Note)
      const stream = await session.createQueryBuilder(Note, "note").stream()
      for await (const _row of stream);
    })
    expect(fixture.log.verbs()).to.deep.equal(["SELECT", ...begin, "SELECT", "COMMIT"])
  })
})

interface DriverClient {
  query(text: string, done: (error: unknown) => void): void
}

describeOnEach("the first statement begins", postgres, (database) => {
  const fixture = useSessions(database)

  const statements = {
    "raw SQL that TypeORM could have made": 'SELECT "note"."text" FROM "note" "note"',
    "SELECT ... FOR UPDATE": "SELECT * FROM note FOR UPDATE",
    "a function call": "SELECT pg_advisory_xact_lock(1)",
    "now()": "SELECT now()",
    CURRENT_TIMESTAMP: "SELECT CURRENT_TIMESTAMP",
    "a view": "SELECT * FROM note_view",
    "a write": "INSERT INTO note (text) VALUES ('a')",
  }
  for (const [what, text] of Object.entries(statements)) {
    it(`with ${what}`, async () => {
      if (what === "a view") await fixture.rows("CREATE OR REPLACE VIEW note_view AS SELECT * FROM note")
      await fixture.runReader((session) => session.query(text))
      expect(fixture.log.statements()).to.deep.equal(["BEGIN", text, "COMMIT"])
    })
  }

  it("with SERIALIZABLE of transaction(), also where it only reads", async () => {
    await fixture.runReader((session) => session.transaction("SERIALIZABLE", (inner) => inner.count(Note)))
    expect(fixture.log.verbs()).to.deep.equal(["BEGIN", "SAVEPOINT", "SELECT", "RELEASE", "COMMIT"])
  })

  const servers: Record<string, { isolation: string; options: SessionMakerOptions; isDeferred: boolean }> = {
    "at READ COMMITTED puts it off": { isolation: "read committed", options: {}, isDeferred: true },
    "at REPEATABLE READ begins": { isolation: "repeatable read", options: {}, isDeferred: false },
    "at SERIALIZABLE begins": { isolation: "serializable", options: {}, isDeferred: false },
    "at REPEATABLE READ puts it off in a READ COMMITTED session": {
      isolation: "repeatable read",
      options: { isolation },
      isDeferred: true,
    },
    "at SERIALIZABLE begins in a READ COMMITTED session": {
      isolation: "serializable",
      options: { isolation },
      isDeferred: false,
    },
  }
  for (const [what, { isolation, options, isDeferred }] of Object.entries(servers)) {
    it(`a server ${what}`, async () => {
      const extra = { options: `-c default_transaction_isolation=${isolation.replace(" ", "\\ ")}` }
      const maker = fixture.makeMaker({ ...options, extra })
      await maker.dataSource()
      fixture.log.clear()
      await maker.run((session) => session.count(Note), { readOnly: true })
      await maker.close()
      expect(fixture.log.verbs()).to.deep.equal(isDeferred ? ["SELECT"] : ["BEGIN", "SELECT", "COMMIT"])
    })
  }
})

describeOnEach("the first statement begins, on", sessionDatabases, (database) => {
  const fixture = useSessions(database)

  it("each database but PostgreSQL, whose own isolation is READ COMMITTED", async () => {
    await fixture.runReader((session) => session.count(Note))
    expect(fixture.log.verbs()).to.deep.equal(database.kind === "postgres" ? ["SELECT"] : ["BEGIN", "SELECT", "COMMIT"])
  })
})

describeOnEach("a READ COMMITTED session on a server set up otherwise", mysql, (database) => {
  const fixture = useSessions(database)

  const settings = {
    "READ UNCOMMITTED": "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
    "without autocommit": "SET SESSION autocommit = 0",
  }
  for (const [what, setting] of Object.entries(settings)) {
    it(`${what}: begins, and reads what is committed`, async () => {
      const { uri } = fixture.database
      const dataSource = new DataSource({ type: "mariadb", url: uri, entities: httpEntities, poolSize: 1 })
      await dataSource.initialize()
      await dataSource.query(setting)
      const maker = new SessionMaker(dataSource)
      const writer = await fixture.database.open()
      try {
        const count = () => maker.run((session) => session.count(Note), { isolation, readOnly: true })
        await writer.query("START TRANSACTION")
        await writer.query("INSERT INTO note (text) VALUES ('a')")
        expect(await count()).to.equal(0)
        await writer.query("COMMIT")
        expect(await count()).to.equal(1)
      } finally {
        await writer.close()
        await maker.close()
        await dataSource.destroy()
      }
    })
  }
})
