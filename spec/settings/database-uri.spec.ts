import "reflect-metadata"
import { expect } from "chai"
import { DataSource } from "typeorm"
import { DatabaseUriError } from "../../src/errors"
import { parseDatabaseUri } from "../../src/settings/database-uri"

const SQLITE = { type: "better-sqlite3", enableWAL: true }
const PG = { type: "postgres", host: "h", port: 5432, database: "d", uuidExtension: "pgcrypto" }

const accepted: Record<string, object> = {
  "sqlite:///app.db": { ...SQLITE, database: "app.db" },
  "sqlite:///./data/app.db": { ...SQLITE, database: "./data/app.db" },
  "sqlite:////var/lib/app.db": { ...SQLITE, database: "/var/lib/app.db" },
  "sqlite:///C:/data/app.db": { ...SQLITE, database: "C:/data/app.db" },
  "sqlite:///my%20app.db": { ...SQLITE, database: "my app.db" },
  "sqlite+pysqlite:///app.db": { ...SQLITE, database: "app.db" },
  "sqlite://": { type: "better-sqlite3", database: ":memory:" },
  "sqlite:///": { type: "better-sqlite3", database: ":memory:" },
  "sqlite:///:memory:": { type: "better-sqlite3", database: ":memory:" },
  "sqlite:///a.db?timeout=100&fileMustExist=true": { ...SQLITE, database: "a.db", timeout: 100, fileMustExist: true },
  "sqlite:///a.db?readonly=true": { ...SQLITE, database: "a.db", readonly: true, enableWAL: false },
  "postgres://h/d": PG,
  "POSTGRESQL://h/d": PG,
  "postgresql+psycopg2://u:p@h:6543/d": { ...PG, username: "u", password: "p", port: 6543 },
  "postgres://u%40x:p%3A%2F%40@h/d%2Fe": { ...PG, username: "u@x", password: "p:/@", database: "d/e" },
  "postgres://u:p@ss#1:x@h/d": { ...PG, username: "u", password: "p@ss#1:x" },
  "postgres://u:100%@h/d": { ...PG, username: "u", password: "100%" },
  "postgres://u:@h/d": { ...PG, username: "u", password: "" },
  "postgres:///d": { ...PG, host: "localhost" },
  "postgres://[::1]:6543/d": { ...PG, host: "::1", port: 6543 },
  "postgres:///d?host=/var/run/postgresql": { ...PG, host: "/var/run/postgresql" },
  "postgres://%2Frun%2Fpg/d": { ...PG, host: "/run/pg" },
  "postgres://h/d?sslmode=disable": { ...PG, ssl: false },
  "postgres://h/d?sslmode=prefer": PG,
  "postgres://h/d?sslmode=require": { ...PG, ssl: { rejectUnauthorized: false } },
  "postgres://h/d?sslmode=verify-full": { ...PG, ssl: true },
  "postgres://h/d?application_name=a%20b&schema=s&pool_size=7": {
    ...PG,
    applicationName: "a b",
    schema: "s",
    poolSize: 7,
  },
  "postgres://h/d?keepAlive=true&statement_timeout=500&zip=0123&password=123": {
    ...PG,
    password: "123",
    extra: { keepAlive: true, statement_timeout: 500, zip: "0123" },
  },
  "mysql+pymysql://u@h/d?charset=utf8mb4&timezone=Z&multipleStatements=false": {
    type: "mysql",
    host: "h",
    port: 3306,
    username: "u",
    database: "d",
    charset: "utf8mb4",
    timezone: "Z",
    extra: { multipleStatements: false },
  },
  "mariadb://h:3307/d": { type: "mariadb", host: "h", port: 3307, database: "d" },
  "cockroachdb://h/d": { type: "cockroachdb", host: "h", port: 26257, database: "d", timeTravelQueries: false },
}

const refused: Record<string, RegExp> = {
  "": /URI is empty/,
  "  ": /URI is empty/,
  "app.db": /has no scheme/,
  "mongodb://u:hunter2@h/d": /unknown scheme "mongodb"/,
  "postgres://u:hunter2@h": /names no database/,
  "postgres://h/": /names no database/,
  "postgres://h:port/d": /host or port that cannot be read/,
  "postgres://h:99999/d": /port outside/,
  "postgres://a:1,b:2/d": /host or port that cannot be read/,
  "postgres://u:12/hunter2@h/d": /has an @ behind the host/,
  "postgres://u:12?hunter2@h/d": /has an @ behind the host/,
  "postgres://h/d?sslmode=hunter2": /"sslmode"/,
  "postgres://h/d?pool_size=many": /"poolSize"/,
  "postgres://h/d?sslrootcert=/ca.pem": /certificate or key file/,
  "sqlite://app.db": /three slashes/,
  "sqlite:app.db": /has no scheme followed by/,
}

describe("parseDatabaseUri()", () => {
  for (const [uri, options] of Object.entries(accepted)) {
    it(`understands ${uri}`, () => expect(parseDatabaseUri(uri)).to.deep.equal(options))
  }

  for (const [uri, reason] of Object.entries(refused)) {
    it(`refuses ${JSON.stringify(uri)} and says what is accepted`, () => {
      expect(() => parseDatabaseUri(uri))
        .to.throw(DatabaseUriError, reason)
        .with.property("message")
        .that.includes("sqlite:///")
        .and.includes("cockroachdb://")
    })
  }

  it("opens the SQLite database that it describes", async () => {
    const dataSource = await new DataSource(parseDatabaseUri("sqlite://")).initialize()
    expect(await dataSource.query("SELECT 1 AS one")).to.deep.equal([{ one: 1 }])
    await dataSource.destroy()
  })
})
