import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect } from "chai"
import { DataSource, type DataSourceOptions } from "typeorm"
import { adoptDataSource, buildDataSource, type DataSourceOverrides, initialize } from "../../src/engine/data-source"
import { SessionOptionsError } from "../../src/errors"
import { contextSession } from "../../src/session/context-session"
import { SessionMaker } from "../../src/session/session-maker"
import { parseDatabaseUri } from "../../src/settings/database-uri"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"
import { httpEntities, Note } from "../support/http-entities"
import { repositoryTop } from "../support/sources"

const run = promisify(execFile)
const servers = testDatabases.filter(({ kind }) => kind !== "sqlite")
const outside = testDatabases.filter(({ isFile }) => isFile !== false)
const support = (name: string) => join(repositoryTop, "dist/spec/engine/support", name)

const replication = { master: { host: "primary" }, slaves: [{ host: "replica" }] }

/** What each database's driver is told that TypeORM's options, or the user's, do not say. */
const recommended: Readonly<Record<string, { readonly given: DataSourceOptions; readonly expected: object }>> = {
  postgres: {
    given: { type: "postgres", extra: { statement_timeout: 5 } },
    expected: {
      connectTimeoutMS: 10_000,
      uuidExtension: "pgcrypto",
      extra: { statement_timeout: 5, keepAlive: true, keepAliveInitialDelayMillis: 10_000 },
    },
  },
  cockroachdb: {
    given: { type: "cockroachdb", timeTravelQueries: false },
    expected: {
      extra: { connectionTimeoutMillis: 10_000, keepAlive: true, keepAliveInitialDelayMillis: 10_000 },
    },
  },
  mariadb: {
    given: { type: "mariadb" },
    expected: { connectTimeout: 10_000, extra: { keepAliveInitialDelay: 10_000 } },
  },
  "mysql with replication": {
    given: { type: "mysql", replication },
    expected: { connectTimeout: 10_000, replication: { ...replication, restoreNodeTimeout: 1_000 } },
  },
  "a SQLite file": {
    given: { type: "better-sqlite3", database: "some.db" },
    expected: { enableWAL: true },
  },
}

describe("buildDataSource()", () => {
  for (const [name, { given, expected }] of Object.entries(recommended)) {
    it(`lays the recommended settings under those that are given, for ${name}`, () => {
      const before = structuredClone(given)
      expect(buildDataSource(given).options).to.deep.include(expected)
      expect(given).to.deep.equal(before)
    })

    it(`has them in a DataSource of the application's, too, for ${name}`, () => {
      const dataSource = new DataSource({ ...given } as DataSourceOptions)
      adoptDataSource(dataSource)
      adoptDataSource(dataSource)
      expect(dataSource.options).to.deep.include({ ...given, ...expected })
      expect(dataSource.driver.options).to.deep.include(expected)
    })
  }

  it("keeps what is given: in the options, in a URI's parameters, laid over them", () => {
    const keepAlive = { keepAlive: false, keepAliveInitialDelayMillis: 1 }
    expect(buildDataSource({ type: "postgres", connectTimeoutMS: 1, extra: keepAlive }).options).to.deep.include({
      connectTimeoutMS: 1,
      extra: keepAlive,
    })
    expect(buildDataSource("mysql://h/d?keepAliveInitialDelay=7&connectTimeout=3").options).to.deep.include({
      extra: { keepAliveInitialDelay: 7, connectTimeout: 3 },
    })
    const restored = { ...replication, restoreNodeTimeout: 5 }
    expect(buildDataSource("mysql://h/d", { replication: restored }).options).to.deep.include({ replication: restored })
  })

  it("leaves options that are frozen as they are", () => {
    const dataSource = new DataSource(Object.freeze({ type: "mariadb" }))
    expect(() => adoptDataSource(dataSource)).to.not.throw()
  })

  it("refuses options that nobody knows, and a poolSize of none", () => {
    const misspelt = { poolsize: 5 } as DataSourceOverrides
    expect(() => buildDataSource("sqlite://", misspelt)).to.throw(SessionOptionsError, 'Did you mean "poolSize"?')
    expect(() => buildDataSource({ type: "postgres", poolSize: 0 })).to.throw(SessionOptionsError, '"poolSize"')
  })
})

describeOnEach("the driver's pool of a DataSource", servers, ({ kind, createDatabase }) => {
  let created: CreatedDatabase
  let dataSource: DataSource

  const ways: Readonly<Record<string, (options: DataSourceOptions) => Promise<DataSource>>> = {
    "buildDataSource()": (options) => initialize(buildDataSource(options)),
    "new DataSource(), for a SessionMaker": async (options) => {
      const given = new DataSource(options)
      const maker = new SessionMaker(given)
      await maker.dataSource()
      await maker.close()
      return given
    },
    "new DataSource(), for contextSession()": async (options) => {
      const given = new DataSource(options)
      await contextSession(given, (session) => session.query("SELECT 1"))
      return given
    },
  }

  beforeEach(async () => {
    created = await createDatabase()
  })

  afterEach(async () => {
    await dataSource.destroy()
    await created.drop()
  })

  for (const [way, make] of Object.entries(ways)) {
    it(`keeps connections alive with ${way}`, async () => {
      dataSource = await make({ ...parseDatabaseUri(created.uri), entities: [] } as DataSourceOptions)
      const settings =
        kind === "postgres"
          ? Reflect.get(dataSource.driver, "master").options
          : Reflect.get(dataSource.driver, "pool").config.connectionConfig
      expect(settings).to.include(
        kind === "postgres"
          ? { keepAlive: true, keepAliveInitialDelayMillis: 10_000, connectionTimeoutMillis: 10_000 }
          : { enableKeepAlive: true, keepAliveInitialDelay: 10_000, connectTimeout: 10_000 },
      )
    })
  }
})

describeOnEach(
  "a node of MySQL's replication that stops answering",
  servers.filter(({ kind }) => kind === "mysql"),
  () => {
    for (const way of ["built", "given"]) {
      it(`ends no process and comes back, with a DataSource that was ${way}`, async function () {
        this.timeout(30_000)
        const uri = process.env.TEST_MYSQL_URI ?? ""
        const { stdout } = await run(process.execPath, [support("nodes-down.js"), uri, way], { timeout: 25_000 })
        const down = { failures: 12, isBack: true }
        expect(JSON.parse(stdout)).to.deep.equal({ replica: down, primary: down })
      })
    }
  },
)

describeOnEach("a DataSource that was built and is not initialised", outside, (database) => {
  let created: CreatedDatabase

  beforeEach(async () => {
    created = await database.createDatabase()
  })

  afterEach(() => created.drop())

  for (const prepared of ["no", "yes"]) {
    it(`is what TypeORM's command line takes; prepared by a maker: ${prepared}`, async function () {
      this.timeout(20_000)
      const cli = join(repositoryTop, "node_modules/typeorm/cli.js")
      const env = { ...process.env, DATABASE_URI: created.uri, PREPARED: prepared }
      const command = (name: string) => run(process.execPath, [cli, name, "-d", support("command-line.js")], { env })
      expect((await command("schema:sync")).stdout).to.include("Schema synchronization finished successfully")
      if (database.kind !== "mysql") expect((await command("schema:log")).stdout).to.include("up to date")
      const second = await created.open()
      expect(await second.query("SELECT * FROM planned")).to.deep.equal([])
    })
  }

  it("is given to a SessionMaker, which leaves it to the caller", async () => {
    const dataSource = buildDataSource(created.uri, { entities: httpEntities, synchronize: true })
    const maker = new SessionMaker(dataSource)
    await maker.prepare()
    expect(dataSource.isInitialized).to.equal(false)
    await maker.run((session) => session.insert(Note, { text: "a" }))
    await maker.close()
    expect(dataSource.isInitialized).to.equal(true)
    await dataSource.destroy()
  })
})
