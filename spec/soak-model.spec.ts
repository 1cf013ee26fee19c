import { execFile } from "node:child_process"
import { join } from "node:path"
import { expect } from "chai"
import { type GenerateOptions, generateProgram } from "../soak/model/generate"
import { parseProgram, type Step } from "../soak/model/program"
import { shrink } from "../soak/model/shrink"
import { embeddedPostgresUri } from "./support/embedded-postgres"
import { mysql } from "./support/mysql-database"

const PROGRAMS = 150
const SEED = 1

interface Ended {
  readonly code: unknown
  readonly output: string
}

/** In a process of its own: late statements are reported as warnings there, and what nobody handles is seen. */
async function runModel(...parameters: readonly string[]): Promise<Ended> {
  const env = { ...process.env }
  if (parameters.includes("postgres")) env.TEST_POSTGRES_URI ??= await embeddedPostgresUri()
  return new Promise((resolve) => {
    const file = join(__dirname, "..", "soak", "model", "run.js")
    execFile(process.execPath, [file, ...parameters], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, output: stdout + stderr })
    })
  })
}

describe("npm run soak:model", function () {
  this.timeout(60_000)

  for (const database of ["sqlite", "postgres", "mysql"]) {
    describe(`on ${database}, with ${PROGRAMS} programs`, () => {
      if (database === "mysql" && !mysql.available) {
        it(`is skipped: ${mysql.skipReason}`)
        return
      }
      it("finds no difference between what is kept and what the contract says", async () => {
        const { code, output } = await runModel(
          "--database",
          database,
          "--programs",
          `${PROGRAMS}`,
          "--seed",
          `${SEED}`,
        )
        // The whole output shows the program that failed, and how it is run again.
        expect(output).to.match(
          new RegExp(`${PROGRAMS} programs with [1-9].*, 0 with a difference.*seed ${SEED}\\.\n$`),
        )
        expect(code).to.equal(0)
      })
    })
  }

  it("runs a program again that was printed", async () => {
    const steps = [{ do: "write", id: 1, kind: "insert", table: "a", key: 3, via: 0, caught: false }]
    const { code, output } = await runModel(
      "--database",
      "sqlite",
      "--replay",
      JSON.stringify({ opened: "run", steps }),
    )
    expect(output).to.include("#1 insert a3\n").and.to.include("no difference\n")
    expect(code).to.equal(0)
  })

  it("refuses a program that is none, and an unknown family", async () => {
    for (const parameters of [
      ["--replay", "{}"],
      ["--without", "nothing"],
    ]) {
      expect(await runModel("--database", "sqlite", ...parameters)).to.have.property("code", 1)
    }
  })
})

describe("the programs of the model checker", () => {
  const options: GenerateOptions = { kind: "postgres", families: new Set(["nested", "parallel"]) }

  it("are the same for the same seed, survive being printed, and differ with the seed", () => {
    const program = generateProgram("1/1", options)
    expect(generateProgram("1/1", options)).to.deep.equal(program)
    expect(parseProgram(JSON.stringify(program))).to.deep.equal(program)
    expect(generateProgram("1/2", options)).to.not.deep.equal(program)
  })

  it("are cut down to the steps that a difference needs", async () => {
    const insert = (id: number): Step => ({
      do: "write",
      id,
      kind: "insert",
      table: "a",
      key: 1,
      via: 0,
      caught: false,
    })
    const block: Step = { do: "block", id: 9, via: 0, caught: true, body: [insert(1), insert(2)] }
    const has = (steps: readonly Step[]): boolean =>
      steps.some((step) => ("id" in step && step.id === 2) || ("body" in step && has(step.body)))
    const smallest = await shrink({ opened: "run", steps: [insert(3), block, insert(4)] }, async ({ steps }) =>
      has(steps),
    )
    expect(smallest).to.deep.equal({ opened: "run", steps: [insert(2)] })
  })
})
