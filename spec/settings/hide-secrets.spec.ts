import "reflect-metadata"
import { inspect } from "node:util"
import { expect } from "chai"
import { DataSource, type DataSourceOptions } from "typeorm"
import { parseDatabaseUri } from "../../src/settings/database-uri"
import { hideDataSourceSecrets, hideSecrets } from "../../src/settings/hide-secrets"
import { redactUri } from "../../src/settings/redact-uri"
import { describeOnEach, testDatabases } from "../support/databases"

const SECRET = "Sw0rdf1sh"

describe("hideSecrets()", () => {
  it("masks every place of a secret in inspect(), leaves the values, and may be called twice", () => {
    const options = {
      type: "postgres",
      password: SECRET,
      url: `postgres://u:${SECRET}@h/d`,
      ssl: { key: SECRET, passphrase: SECRET, ca: "public" },
      extra: { password: SECRET, token: SECRET, ssl: { key: SECRET }, max: 3 },
      replication: {
        master: { password: SECRET, url: `postgres://u:${SECRET}@h/d` },
        slaves: [{ password: SECRET, ssl: { key: SECRET } }],
      },
    } as unknown as DataSourceOptions
    expect(hideSecrets(hideSecrets(options))).to.equal(options)
    const shown = inspect(options, { depth: 10 })
    expect(shown).not.to.include(SECRET)
    expect(shown).to.include("public").and.include("max: 3").and.include("postgres://u:***@h/d")
    expect(Reflect.get(options, "password")).to.equal(SECRET)
    expect(Object.keys(options)).to.have.length(6)
  })

  it("masks the key of an encrypted SQLite database", () => {
    const options = hideSecrets({ type: "better-sqlite3", database: "x", key: SECRET })
    expect(inspect({ options })).not.to.include(SECRET)
  })

  for (const uri of [`postgres://u:${SECRET}@h/d`, `cockroachdb://u:${SECRET}@h/d`]) {
    it(`covers the DataSource made from ${redactUri(uri)}`, () => {
      const dataSource = new DataSource(parseDatabaseUri(uri))
      for (const shown of [dataSource, dataSource.options, dataSource.driver, dataSource.manager]) {
        expect(inspect(shown, { depth: 10 })).not.to.include(SECRET)
      }
    })
  }
})

describe("hideDataSourceSecrets()", () => {
  it("covers the MySQL driver, which copies the options", () => {
    const dataSource = hideDataSourceSecrets(new DataSource(parseDatabaseUri(`mysql://u:${SECRET}@h/d`)))
    for (const shown of [dataSource, dataSource.driver, dataSource.driver.options, dataSource.manager]) {
      expect(inspect(shown, { depth: 10 })).not.to.include(SECRET)
    }
  })
})

describeOnEach(
  "hideDataSourceSecrets() once connected",
  testDatabases.filter(({ kind }) => kind !== "sqlite"),
  (database) => {
    it("covers the pool of an initialised DataSource", async () => {
      const created = await database.createDatabase()
      const dataSource = new DataSource(parseDatabaseUri(withPassword(created.uri)))
      try {
        // MariaDB's root may refuse a password; what is inspected is the pool, which exists either way.
        await dataSource.initialize().catch(() => undefined)
        hideDataSourceSecrets(dataSource)
        const runner = dataSource.createQueryRunner()
        for (const shown of [dataSource, dataSource.driver, dataSource.manager, runner]) {
          expect(inspect(shown, { depth: 12 })).not.to.include(SECRET)
        }
        await runner.release()
      } finally {
        if (dataSource.isInitialized) await dataSource.destroy()
        await created.drop()
      }
    })
  },
)

function withPassword(uri: string): string {
  const url = new URL(uri)
  url.password = SECRET
  return url.href
}
