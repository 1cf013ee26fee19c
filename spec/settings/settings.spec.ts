import "reflect-metadata"
import { inspect } from "node:util"
import { expect } from "chai"
import { Equals, IsBoolean, IsDate, IsIn, IsInt, IsNumber, IsOptional, IsString, Max, MinLength } from "class-validator"
import { SettingsError } from "../../src/errors"
import { Settings } from "../../src/settings/settings"

class MailSettings extends Settings {
  static override prefix = "MAIL_"
  @IsString() host!: string
  @IsInt() @Max(65_535) port = 25
  @IsBoolean() useTls = false
  @IsDate() @IsOptional() certificateUntil?: Date
  @IsString({ each: true }) cc: string[] = []
  @IsIn(["plain", "login"]) @IsOptional() method?: string
  retries = 3
}

function failure(load: () => unknown): SettingsError {
  let caught: unknown
  expect(() => {
    try {
      load()
    } catch (error) {
      caught = error
      throw error
    }
  }).to.throw(SettingsError)
  return caught as SettingsError
}

describe("Settings.load()", () => {
  it("reads each property from the prefix and its name in upper snake case", () => {
    const settings = MailSettings.load({ MAIL_HOST: "mx", MAIL_CERTIFICATE_UNTIL: "2030-01-02" })
    expect(settings).to.be.instanceOf(MailSettings)
    expect(settings.host).to.equal("mx")
    expect(settings.certificateUntil).to.deep.equal(new Date("2030-01-02"))
  })

  it("converts by the declared type, or by that of the default where there is no decorator", () => {
    const settings = MailSettings.load({
      MAIL_HOST: "mx",
      MAIL_PORT: "587",
      MAIL_USE_TLS: "Yes",
      MAIL_CC: "a@b, c@d",
      MAIL_RETRIES: "7",
    })
    expect(settings).to.include({ port: 587, useTls: true, retries: 7 })
    expect(settings.cc).to.deep.equal(["a@b", "c@d"])
  })

  for (const [text, value] of Object.entries({
    true: true,
    "1": true,
    on: true,
    FALSE: false,
    "0": false,
    no: false,
  })) {
    it(`reads ${text} as the boolean ${value}`, () => {
      expect(MailSettings.load({ MAIL_HOST: "mx", MAIL_USE_TLS: text }).useTls).to.equal(value)
    })
  }

  it("keeps the initialiser where the variable is unset or empty", () => {
    const settings = MailSettings.load({ MAIL_HOST: "mx", MAIL_PORT: "", MAIL_RETRIES: " " })
    expect(settings).to.include({ port: 25, retries: 3, useTls: false })
    expect(settings.method).to.equal(undefined)
  })

  it("reads process.env at the call, not before", () => {
    process.env.MAIL_HOST = "first"
    expect(MailSettings.load().host).to.equal("first")
    process.env.MAIL_HOST = "second"
    expect(MailSettings.load().host).to.equal("second")
  })

  it("names every missing and invalid variable in one error, in order of declaration", () => {
    const error = failure(() => MailSettings.load({ MAIL_PORT: "70000", MAIL_USE_TLS: "maybe", MAIL_METHOD: "oauth" }))
    expect(error.code).to.equal("ERR_SESSION_SETTINGS")
    expect(error.variables).to.deep.equal(["MAIL_HOST", "MAIL_PORT", "MAIL_USE_TLS", "MAIL_METHOD"])
    expect(error.message).to.include("MAIL_HOST is missing: must be a string")
    expect(error.message).to.include("MAIL_PORT is invalid: must not be greater than 65535")
    expect(error.message).to.include("MAIL_USE_TLS is invalid: must be true or false")
    expect(error.message).to.include("MAIL_METHOD is invalid: must be one of the following values: plain, login")
    expect(error.message).to.include("Set in the environment")
  })

  it("prints no value, even where a message of the application asks for it", () => {
    class Leaky extends Settings {
      @MinLength(20, { message: "$property is $value" }) secret!: string
      @Equals("x", { message: ({ value }) => `got ${value}` }) other!: string
      @IsNumber() amount!: number
      @Max(3, { message: "got $value" }) small!: number
    }
    const env = { SECRET: "hunter2", OTHER: "swordfish", AMOUNT: "correcthorse", SMALL: "0042" }
    const error = failure(() => Leaky.load(env))
    expect(error.variables).to.have.length(4)
    for (const text of [error.message, inspect(error, { depth: 9 }), error.stack ?? ""]) {
      for (const value of ["hunter2", "swordfish", "correcthorse", "42"]) expect(text).not.to.include(value)
    }
    expect(error.message).to.include("SECRET is invalid: must satisfy minLength")
  })

  it("finds inherited settings and asks no variable for a getter", () => {
    class Base extends Settings {
      @IsString() region!: string
    }
    class Derived extends Base {
      @IsString() bucket!: string
      @MinLength(1)
      get url(): string {
        return `${this.region}/${this.bucket}`
      }
    }
    expect(Derived.load({ REGION: "eu", BUCKET: "b", URL: "ignored" }).url).to.equal("eu/b")
    expect(failure(() => Derived.load({})).variables).to.have.members(["REGION", "BUCKET"])
  })

  it("validates what a getter computes", () => {
    class Computed extends Settings {
      @MinLength(5)
      get short(): string {
        return "abc"
      }
    }
    expect(failure(() => Computed.load({})).message).to.include("short (computed) is invalid: must be longer")
  })

  it("shows no password in inspect()", () => {
    class Secretive extends Settings {
      @IsString() dbPassword!: string
      @IsString() uri!: string
    }
    const shown = inspect(Secretive.load({ DB_PASSWORD: "hunter2", URI: "postgres://u:hunter2@h/d" }))
    expect(shown).not.to.include("hunter2")
    expect(shown).to.include("postgres://u:***@h/d")
  })
})
