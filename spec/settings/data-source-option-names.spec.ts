import { expect } from "chai"
import { SessionOptionsError } from "../../src/errors"
import { assertDataSourceOptions } from "../../src/settings/data-source-option-names"

describe("assertDataSourceOptions()", () => {
  const check = (options: object) => () => assertDataSourceOptions(options, ["retries"], "here")

  const meant = {
    poolsize: "poolSize",
    pool_size: "poolSize",
    PoolSize: "poolSize",
    entites: "entities",
    uri: "url",
    retires: "retries",
    connectTimeoutMs: "connectTimeoutMS",
  }
  for (const [written, name] of Object.entries(meant)) {
    it(`takes ${written} for ${name}, and refuses it`, () => {
      expect(check({ [written]: 5 })).to.throw(
        SessionOptionsError,
        `here: option "${written}" is unknown. Did you mean "${name}"?`,
      )
    })
  }

  it("says where an option of the driver belongs, where nothing like it is known", () => {
    expect(check({ statement_timeout: 5 })).to.throw(SessionOptionsError, "go into extra")
  })

  for (const poolSize of [0, -1, 1.5, "5", Number.NaN, null, Number.POSITIVE_INFINITY]) {
    it(`refuses a poolSize of ${String(poolSize)} (${typeof poolSize})`, () => {
      expect(check({ poolSize })).to.throw(SessionOptionsError, 'here: option "poolSize" must be')
    })
  }

  it("takes what it knows, and an option that was left undefined", () => {
    expect(check({ poolSize: 1, entities: [], retries: 3, replication: {} })).to.not.throw()
    expect(check({ poolSize: undefined })).to.not.throw()
  })
})
