import { expect } from "chai"
import { type DriverQueryConstructor, prefixedQuery } from "../../src/engine/postgres-query"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"

interface Client {
  connect(): Promise<unknown>
  query(query: object): unknown
  query(text: string): Promise<{ rows: unknown[] }>
  end(): Promise<void>
  getTransactionStatus(): string | null
}

interface Result {
  readonly rows: unknown[]
  readonly rowCount: number | null
  readonly command: string
  readonly fields: readonly { name: string }[]
}

const { Client, Query } = require("pg") as { Client: new (options: object) => Client; Query: DriverQueryConstructor }

const Prefixed = prefixedQuery(Query)

describe("what prefixedQuery() relies on in pg", () => {
  it("is there: Query with prepare(), requiresPreparation() and its handlers", () => {
    const methods = ["submit", "prepare", "requiresPreparation", "handleDataRow", "handleCommandComplete"]
    for (const method of methods) expect(Query.prototype).to.have.property(method).that.is.a("function")
    expect(Client.prototype).to.have.property("getTransactionStatus").that.is.a("function")
  })
})

describeOnEach(
  "prefixedQuery()",
  testDatabases.filter(({ kind }) => kind === "postgres"),
  (database) => {
    let created: CreatedDatabase
    let client: Client

    before(async () => {
      created = await database.createDatabase()
      client = new Client({ connectionString: created.uri })
      await client.connect()
      await client.query("CREATE TABLE note (id integer)")
    })

    after(async () => {
      await client.end()
      await created.drop()
    })

    afterEach(async () => {
      await client.query("ROLLBACK")
    })

    interface Answer {
      readonly error: Error | undefined
      readonly result: Result
      readonly prefixCompleted: number
    }

    function send(prefix: readonly string[], text: string, values?: readonly unknown[]): Promise<Answer> {
      return new Promise((resolve) => {
        let prefixCompleted = 0
        const prefixAnswered = (completed: number) => {
          prefixCompleted = completed
        }
        client.query(
          new Prefixed(prefix, { prefixAnswered }, text, values, (error, result) => {
            resolve({ error, result: result as Result, prefixCompleted })
          }),
        )
      })
    }

    it("answers with the rows of the statement, and with none of the prefix", async () => {
      const prefix = ["BEGIN", "SELECT set_config('a.b', 'c', true)", "SAVEPOINT x"]
      const { result, prefixCompleted } = await send(prefix, "SELECT $1::int AS n, current_setting('a.b') AS s", [7])
      expect(prefixCompleted).to.equal(3)
      expect(result.rows).to.deep.equal([{ n: 7, s: "c" }])
      expect([result.rowCount, result.command]).to.deep.equal([1, "SELECT"])
      expect(result.fields.map(({ name }) => name)).to.deep.equal(["n", "s"])
      expect(client.getTransactionStatus()).to.equal("T")
    })

    it("answers without rows to a statement that has none", async () => {
      const { result } = await send(["BEGIN"], "INSERT INTO note VALUES (1), (2)")
      expect([result.rows, result.rowCount, result.command]).to.deep.equal([[], 2, "INSERT"])
    })

    it("lets the prefix stand when the statement fails, in its syntax or later", async () => {
      for (const text of ["NONSENSE", "SELECT 1/0", "SELECT * FROM nowhere"]) {
        const { error, prefixCompleted } = await send(["BEGIN", "SAVEPOINT x"], text)
        expect(error).to.be.instanceOf(Error).and.have.property("severity", "ERROR")
        expect(prefixCompleted).to.equal(2)
        // The status comes behind the error, perhaps in a packet of its own.
        await client.query("")
        expect(client.getTransactionStatus()).to.equal("E")
        await client.query("ROLLBACK TO SAVEPOINT x")
        expect(client.getTransactionStatus()).to.equal("T")
        await client.query("ROLLBACK")
      }
    })

    it("does not run the statement when the prefix fails", async () => {
      const { error, prefixCompleted } = await send(["BEGIN", "NONSENSE"], "INSERT INTO note VALUES (3)")
      expect(error).to.be.instanceOf(Error)
      expect(prefixCompleted).to.equal(1)
      await client.query("ROLLBACK")
      expect((await client.query("SELECT * FROM note")).rows).to.deep.equal([])
    })

    it("leaves the client usable when a value cannot be bound", async () => {
      const value = {
        toPostgres() {
          throw new Error("cannot be bound")
        },
      }
      const { error } = await send(["BEGIN"], "SELECT $1::text", [value])
      expect(error).to.have.property("message", "cannot be bound")
      await client.query("ROLLBACK")
      expect((await client.query("SELECT 1 AS n")).rows).to.deep.equal([{ n: 1 }])
    })

    it("answers to an empty statement", async () => {
      const { error, result } = await send(["BEGIN"], "")
      expect(error ?? undefined).to.equal(undefined)
      expect(result.rows).to.deep.equal([])
      expect(client.getTransactionStatus()).to.equal("T")
    })
  },
)
