import { once } from "node:events"
import { connect } from "node:net"
import { expect } from "chai"
import {
  type CreatedDatabase,
  describeOnEach,
  type SecondConnection,
  type TestDatabase,
  testDatabases,
} from "../support/databases"
import { type FaultyNetwork, startFaultyNetwork } from "../support/faulty-network"
import { connectToMysql } from "../support/mysql-database"
import { connectToPostgres } from "../support/postgres-database"

const servers = testDatabases.filter(({ kind }) => kind !== "sqlite")

const clientOf = ({ kind }: TestDatabase, uri: string): Promise<SecondConnection> =>
  kind === "postgres" ? connectToPostgres(uri) : connectToMysql(uri)

/** @returns "pending" where the promise has not settled after some turns of the network */
async function stateOf(promise: Promise<unknown>): Promise<string> {
  const later = new Promise<string>((resolve) => setTimeout(resolve, 100, "pending"))
  return Promise.race([
    promise.then(
      () => "resolved",
      () => "rejected",
    ),
    later,
  ])
}

describeOnEach("startFaultyNetwork()", servers, (database) => {
  let created: CreatedDatabase
  let network: FaultyNetwork
  let client: SecondConnection
  let direct: SecondConnection

  before(async () => {
    created = await database.createDatabase()
  })
  after(() => created.drop())
  beforeEach(async () => {
    network = await startFaultyNetwork(created.uri, database.kind)
    client = await clientOf(database, network.uri)
    direct = await created.open()
    await direct.query("CREATE TABLE item (id int)")
  })
  afterEach(async () => {
    network.resume()
    await network.stop()
    await direct.query("DROP TABLE item")
    await direct.close()
  })

  const stored = async () => (await direct.query("SELECT id FROM item")).length

  async function insertAndCommit(): Promise<void> {
    await client.query("BEGIN")
    await client.query("INSERT INTO item VALUES (1)")
    await client.query("COMMIT")
  }

  it("records what was sent, and on which connection", async () => {
    const second = await clientOf(database, network.uri)
    network.clear()
    await client.query("SELECT 1")
    await second.query(database.kind === "postgres" ? "SELECT $1::int" : "SELECT ?", [2])
    await second.query("SELECT 3")
    expect(network.entries().map(({ connection, sql }) => `${connection} ${sql.slice(0, 8)}`)).to.deep.equal([
      "1 SELECT 1",
      database.kind === "postgres" ? "2 SELECT $" : "2 SELECT 2",
      "2 SELECT 3",
    ])
    expect([network.accepted(), network.connections()]).to.deep.equal([2, 2])
  })

  it("cuts in the place of the answer: carried out, and the client hears of the loss", async () => {
    network.on(/^COMMIT/, "cut answer")
    await expect(insertAndCommit()).to.be.rejected
    expect(await stored()).to.equal(1)
  })

  it("cuts before: not carried out, and the client hears of the loss", async () => {
    network.on(/^COMMIT/, "cut before")
    await expect(insertAndCommit()).to.be.rejected
    expect(await stored()).to.equal(0)
  })
})

describeOnEach("startFaultyNetwork() in silence", servers, (database) => {
  let created: CreatedDatabase
  let network: FaultyNetwork
  let client: SecondConnection
  let direct: SecondConnection

  beforeEach(async () => {
    created = await database.createDatabase()
    network = await startFaultyNetwork(created.uri, database.kind)
    client = await clientOf(database, network.uri)
    direct = await created.open()
    await direct.query("CREATE TABLE item (id int)")
  })
  afterEach(async () => {
    await network.stop()
    await created.drop()
  })

  const stored = async () => (await direct.query("SELECT id FROM item")).length

  it("loses an answer: carried out, nothing is heard, nothing is closed", async () => {
    network.on(/^INSERT/, "lose answer")
    const inserting = client.query("INSERT INTO item VALUES (1)")
    expect(await stateOf(inserting)).to.equal("pending")
    expect([await stored(), network.connections()]).to.deep.equal([1, 1])
    network.resume()
    expect(await stateOf(inserting)).to.equal("resolved")
  })

  it("loses a statement: not carried out, nothing is heard, nothing is closed", async () => {
    network.on(/^INSERT/, "lose statement")
    const inserting = client.query("INSERT INTO item VALUES (1)")
    inserting.catch(() => undefined)
    expect(await stateOf(inserting)).to.equal("pending")
    expect([await stored(), network.connections()]).to.deep.equal([0, 1])
  })

  it("holds what is sent until it resumes", async () => {
    network.silence()
    const inserting = client.query("INSERT INTO item VALUES (1)")
    expect(await stateOf(inserting)).to.equal("pending")
    expect(await stored()).to.equal(0)
    network.resume()
    await inserting
    expect(await stored()).to.equal(1)
  })

  it("leaves new connections alone where only those of now are meant, and none where all are", async () => {
    network.silence("open now")
    const fresh = await clientOf(database, network.uri)
    expect(await fresh.query("SELECT 1 AS one")).to.have.length(1)
    network.silence()
    const connecting = clientOf(database, network.uri)
    connecting.catch(() => undefined)
    expect(await stateOf(connecting)).to.equal("pending")
  })

  it("does not tell the server that the client has closed before it resumes", async () => {
    await client.query(database.kind === "postgres" ? "BEGIN" : "START TRANSACTION")
    await client.query("INSERT INTO item VALUES (1)")
    network.silence()
    const closing = client.close()
    closing.catch(() => undefined)
    expect(await stateOf(direct.query(lockOf(database)))).to.equal("rejected")
    network.cut()
  })

  it("abandons a connection for good: the server hears of its end, the client never does", async () => {
    await client.query(database.kind === "postgres" ? "BEGIN" : "START TRANSACTION")
    await client.query("INSERT INTO item VALUES (1)")
    expect(network.abandon("silent", 0)).to.equal(0)
    expect(network.abandon("all", 0)).to.equal(1)
    network.resume()
    const reading = client.query("SELECT 1")
    reading.catch(() => undefined)
    expect(await stateOf(reading)).to.equal("pending")
    expect(network.connections()).to.equal(1)
    // The server rolls back as soon as it has heard.
    const isFree = () =>
      direct.query(lockOf(database)).then(
        () => true,
        () => false,
      )
    while (!(await isFree())) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(await stored()).to.equal(0)
  })

  it("refuses connections until it admits them, and leaves those of before alone", async () => {
    network.refuse()
    await expect(clientOf(database, network.uri)).to.be.rejected
    expect(await client.query("SELECT 1 AS one")).to.have.length(1)
    network.admit()
    const fresh = await clientOf(database, network.uri)
    expect(await fresh.query("SELECT 1 AS one")).to.have.length(1)
  })

  it("cuts a statement that runs after the time given", async () => {
    network.on(/SLEEP/i, { cutAfterMs: 50 })
    const startedAt = performance.now()
    await expect(client.query(database.kind === "postgres" ? "SELECT pg_sleep(2)" : "SELECT sleep(2)")).to.be.rejected
    expect(performance.now() - startedAt).to.be.within(45, 1_000)
  })

  if (database.kind === "postgres") {
    it("hands a cancel request on and records it", async () => {
      const sleeping = client.query("SELECT pg_sleep(5)")
      sleeping.catch(() => undefined)
      const key = network.keyOf(1)
      const request = Buffer.alloc(16)
      request.writeInt32BE(16, 0)
      request.writeInt32BE(80877102, 4)
      request.writeInt32BE(key?.pid ?? 0, 8)
      Buffer.from(key?.key ?? "", "hex").copy(request, 12)
      const socket = connect(network.port, "127.0.0.1")
      socket.end(request)
      await once(socket.resume(), "close")
      await expect(sleeping).to.be.rejected.and.eventually.have.property("code", "57014")
      expect(network.cancels()).to.deep.equal([{ ...key, bytes: 16 }])
    })
  }
})

/** Fails at once where another transaction has written to the table. */
function lockOf({ kind }: TestDatabase): string {
  return kind === "postgres"
    ? "DO $$ BEGIN LOCK TABLE item IN ACCESS EXCLUSIVE MODE NOWAIT; END $$"
    : "ALTER TABLE item NOWAIT ADD n int"
}
