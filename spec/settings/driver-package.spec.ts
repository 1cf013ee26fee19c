import { expect } from "chai"
import { DriverNotInstalledError } from "../../src/errors"
import { assertDriverInstalled } from "../../src/settings/driver-package"

function missing(name: string): never {
  throw Object.assign(new Error(`Cannot find module '${name}'`), { code: "MODULE_NOT_FOUND" })
}

describe("assertDriverInstalled()", () => {
  const packages = {
    "better-sqlite3": "better-sqlite3",
    postgres: "pg",
    cockroachdb: "pg",
    mysql: "mysql2",
    mariadb: "mysql2",
  }
  for (const [type, name] of Object.entries(packages)) {
    it(`finds ${name} for ${type}, and says how to install it where it is absent`, () => {
      expect(() => assertDriverInstalled(type)).not.to.throw()
      expect(() => assertDriverInstalled(type, missing))
        .to.throw(DriverNotInstalledError, `Run: npm install ${name}`)
        .with.property("code", "ERR_SESSION_DRIVER_NOT_INSTALLED")
    })
  }

  it("does nothing for a type that it does not know", () => {
    expect(() => assertDriverInstalled("oracle", missing)).not.to.throw()
  })
})
