import "reflect-metadata"
import { expect } from "chai"
import { IsString } from "class-validator"
import { SettingsError } from "../../src/errors"
import { DatabaseSettings } from "../../src/settings/database-settings"

describe("DatabaseSettings", () => {
  it("reads DATABASE_URI", () => {
    expect(DatabaseSettings.load({ DATABASE_URI: "sqlite://" }).databaseUri).to.equal("sqlite://")
  })

  for (const env of [{}, { DATABASE_URI: "" }]) {
    it(`names DATABASE_URI and shows an example when the environment is ${JSON.stringify(env)}`, () => {
      expect(() => DatabaseSettings.load(env))
        .to.throw(SettingsError, /DATABASE_URI is missing: must be a database URI such as sqlite:\/\/\/\.\/app\.db$/)
        .with.deep.property("variables", ["DATABASE_URI"])
    })
  }

  it("takes a default and a prefix from a subclass", () => {
    class Defaulted extends DatabaseSettings {
      static override prefix = "APP_"
      override databaseUri = "sqlite:///./app.db"
    }
    expect(Defaulted.load({}).databaseUri).to.equal("sqlite:///./app.db")
    expect(Defaulted.load({ APP_DATABASE_URI: "sqlite://" }).databaseUri).to.equal("sqlite://")
  })

  class ServerSettings extends DatabaseSettings {
    @IsString() dbHost!: string
    @IsString() dbName!: string
    override get databaseUri(): string {
      return `postgres://${this.dbHost}/${this.dbName}`
    }
  }

  it("builds the URI in a getter of a subclass without asking for DATABASE_URI", () => {
    const settings = ServerSettings.load({ DB_HOST: "db", DB_NAME: "app" })
    expect(settings.databaseUri).to.equal("postgres://db/app")
  })

  it("names the fields of the getter that are missing, and not DATABASE_URI", () => {
    expect(() => ServerSettings.load({ DB_HOST: "db" }))
      .to.throw(SettingsError)
      .with.deep.property("variables", ["DB_NAME"])
  })
})
