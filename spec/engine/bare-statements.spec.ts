import { expect } from "chai"
import { bareStatements } from "../../src/engine/bare-statements"

describe("bareStatements()", () => {
  it("takes comments, quoted texts and names for none of the statement's words", () => {
    expect(bareStatements("/* undo; */ ROLLBACK -- all;\n TO 'a;''b'", "postgres")).to.deep.equal([
      'ROLLBACK  \n TO ""',
    ])
    expect(bareStatements('ROLLBACK TO "rollback"; SELECT $$;rollback$$', "postgres")).to.deep.equal([
      'ROLLBACK TO ""',
      'SELECT ""',
    ])
    expect(bareStatements("SELECT E'\\';'; END", "postgres")).to.deep.equal(['SELECT ""', "END"])
    expect(bareStatements("SELECT '\\'; COMMIT", "postgres")).to.deep.equal(['SELECT ""', "COMMIT"])
    expect(bareStatements("# one\nSELECT '\\';', `;`; COMMIT", "mysql")).to.deep.equal(['SELECT "", ""', "COMMIT"])
    expect(bareStatements("-- keep;\nCOMMIT", "sqlite")).to.deep.equal(["COMMIT"])
  })

  it("keeps what MySQL carries out of a comment", () => {
    expect(bareStatements("/*! ROLLBACK */", "mysql")).to.deep.equal(["/*! ROLLBACK */"])
  })

  it("holds no statement where there is none", () => {
    expect(bareStatements(" ;-- nothing\n;", "postgres")).to.deep.equal([])
  })
})
