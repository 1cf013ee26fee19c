import { expect } from "chai"
import { isRollbackTo } from "../../src/engine/rollback-to"

describe("isRollbackTo()", () => {
  it("knows a rollback to a savepoint, in each of its forms", () => {
    const texts = [
      "ROLLBACK TO SAVEPOINT typeorm_1",
      "rollback to a",
      'ROLLBACK TO"a"',
      "  ROLLBACK WORK TO a",
      "ROLLBACK TRANSACTION TO SAVEPOINT a;\n",
    ]
    expect(texts.filter((text) => !isRollbackTo(text))).to.deep.equal([])
  })

  it("refuses anything else, and anything behind it", () => {
    const texts = [
      "ROLLBACK",
      "ROLLBACK; BEGIN",
      "ROLLBACK TO a; ROLLBACK",
      "ROLLBACK PREPARED 'to a'",
      "ROLLBACK TOTAL",
      "SAVEPOINT a",
      "SELECT 'rollback to a'",
      "",
    ]
    expect(texts.filter(isRollbackTo)).to.deep.equal([])
  })
})
