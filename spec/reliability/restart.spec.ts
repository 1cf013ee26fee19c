import { expect } from "chai"
import { CommitOutcomeUnknownError } from "../../src/errors"
import { describeOnEach } from "../support/databases"
import { Note } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { directly, killPool, servers } from "./support/databases"
import { eventually } from "./support/eventually"
import { createGate } from "./support/gate"
import { type PrivatePostgres, startPrivatePostgres } from "./support/private-postgres"

const POOL = 5

const insertAndWait: Work = async (db, ctx) => {
  await db.insert(Note, { text: String(ctx.query.text) })
  return { ok: true }
}

const texts = (from: number, count: number) => Array.from({ length: count }, (_, index) => `note ${from + index}`)

async function post(server: SessionApp, all: readonly string[]): Promise<{ text: string; status: number }[]> {
  return Promise.all(
    all.map(async (text) => {
      const { status } = await server.http.post(`/json?text=${encodeURIComponent(text)}`)
      return { text, status }
    }),
  )
}

/** Fills the pool, so that all its connections are idle afterwards. */
async function warm(server: SessionApp): Promise<void> {
  await post(server, texts(0, POOL * 4))
  await server.settled()
  expect(server.maker.stats().pool.size).to.equal(POOL)
}

/** Keeps 20 clients busy until `stop()`; tells what each request was answered. */
function startLoad(server: SessionApp) {
  const answers: { text: string; status: number }[] = []
  let isStopped = false
  let next = 1_000
  const client = async () => {
    try {
      while (!isStopped) answers.push(...(await post(server, [`note ${next++}`])))
    } catch {
      // A spec that failed has closed the server under its load.
    }
  }
  const clients = Array.from({ length: 20 }, client)
  return {
    answers,
    async stop() {
      isStopped = true
      await Promise.all(clients)
    },
  }
}

/** 200: stored; 503: not stored; 500 only where COMMIT was sent and not answered. */
function expectNothingLost(
  server: SessionApp,
  stored: readonly unknown[],
  answers: readonly { text: string; status: number }[],
): void {
  const kept = new Set(stored)
  const textsOf = (wanted: number) => answers.filter(({ status }) => status === wanted).map(({ text }) => text)
  expect(textsOf(200).filter((text) => !kept.has(text))).to.deep.equal([])
  expect(textsOf(503).filter((text) => kept.has(text))).to.deep.equal([])
  const unknown = server.errors.errors().filter((error) => error instanceof CommitOutcomeUnknownError)
  expect(textsOf(500)).to.have.length(unknown.length)
  expect(answers.filter(({ status }) => ![200, 500, 503].includes(status))).to.deep.equal([])
}

describe("the database restarts (PostgreSQL)", function () {
  this.timeout(60_000)
  let cluster: PrivatePostgres
  let server: SessionApp

  before(async () => {
    cluster = await startPrivatePostgres()
  })
  after(() => cluster.remove())
  beforeEach(async () => {
    server = await startSessionApp(cluster.database, { maker: { poolSize: POOL }, work: insertAndWait })
  })
  afterEach(() => server.stop())

  it("answers every request with 200 after a restart while connections were idle, without a ping", async () => {
    await warm(server)
    await cluster.restart("SIGINT")
    server.log.clear()
    const answers = await post(server, texts(100, 50))
    await server.settled()
    expect([...new Set(answers.map(({ status }) => status))]).to.deep.equal([200])
    expect(server.errors.errors()).to.deep.equal([])
    const own = server.wire?.verbs().filter((verb) => verb === "INSERT" || verb === "COMMIT" || verb === "BEGIN") ?? []
    expect(own).to.have.length(150)
    // What TypeORM asks a new connection is counted once for each, and is no ping.
    expect(server.wire?.statements().filter((sql) => /^SELECT 1$/i.test(sql))).to.deep.equal([])
  })

  it("loses nothing that was acknowledged when it restarts under load, and serves again by itself", async () => {
    await warm(server)
    const load = startLoad(server)
    await eventually("100 answers", () => load.answers.length >= 100)
    for (const by of ["SIGQUIT", "SIGINT"] as const) {
      await cluster.restart(by)
      const whenUp = load.answers.length
      const isServing = () => load.answers.slice(whenUp).filter(({ status }) => status === 200).length > 40
      await eventually("service resumes", isServing)
    }
    await load.stop()
    await server.settled()
    const rows = await directly(server, "SELECT text FROM note")
    expectNothingLost(
      server,
      rows.map(({ text }) => text),
      load.answers,
    )
    expect(load.answers.some(({ status }) => status === 503)).to.equal(true)
    expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
    const after = await post(server, texts(900, 20))
    expect([...new Set(after.map(({ status }) => status))]).to.deep.equal([200])
  })
})

describeOnEach("every connection is killed", servers, (database) => {
  let server: SessionApp
  beforeEach(async () => {
    server = await startSessionApp(database, { maker: { poolSize: POOL }, work: insertAndWait })
  })
  afterEach(() => server.stop())

  it("answers every request with 200 when that happened while they were idle", async () => {
    await warm(server)
    for (let round = 0; round < 3; round++) {
      await killPool(server, database.kind)
      const answers = await post(server, texts(100 + round * 30, 30))
      expect([...new Set(answers.map(({ status }) => status))], `round ${round}`).to.deep.equal([200])
      await server.settled()
    }
    expect(server.errors.errors()).to.deep.equal([])
  })

  it("loses nothing that was acknowledged under load, and serves again by itself", async () => {
    await warm(server)
    const load = startLoad(server)
    for (let round = 1; round <= 5; round++) {
      await eventually("answers", () => load.answers.length >= round * 60)
      await killPool(server, database.kind)
    }
    const whenDone = load.answers.length
    await eventually("service resumes", () => load.answers.slice(whenDone).filter((a) => a.status === 200).length > 40)
    await load.stop()
    await server.settled()
    const rows = await directly(server, "SELECT text FROM note")
    expectNothingLost(
      server,
      rows.map(({ text }) => text),
      load.answers,
    )
    expect(server.maker.stats()).to.include({ open: 0, active: 0, waiting: 0 })
    expect(server.maker.stats().pool.size).to.be.at.most(POOL)
  })
})

describeOnEach("idle connections are lost without a word, as a firewall or a failover does", servers, (database) => {
  it("answers every request with 200, without a ping: each dead connection is found at its begin", async () => {
    const created = await database.createDatabase()
    const gate = await createGate(created.uri, database.kind === "postgres" ? 5432 : 3306)
    await gate.open()
    const behindGate = { ...database, createDatabase: async () => ({ ...created, uri: gate.uri }) }
    const server = await startSessionApp(behindGate, { maker: { poolSize: POOL }, work: insertAndWait })
    try {
      for (let round = 0; round < 5; round++) {
        const before = await post(server, texts(round * 100, POOL * 4))
        const after = [...before]
        await server.settled()
        expect(server.maker.stats().pool.size).to.equal(POOL)
        gate.strand()
        after.push(...(await post(server, texts(round * 100 + 50, POOL * 4))))
        expect([...new Set(after.map(({ status }) => status))], `round ${round}`).to.deep.equal([200])
        await server.settled()
      }
      expect(server.errors.errors()).to.deep.equal([])
      const [row] = await directly(server, "SELECT count(*) AS n FROM note")
      expect(Number(row?.n)).to.equal(5 * POOL * 8)
    } finally {
      gate.strand()
      await server.stop()
      await gate.shut()
    }
  })
})
