import { type ChildProcess, execFile, fork } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect } from "chai"
import { type CreatedDatabase, testDatabases } from "./support/databases"
import { blocksOf } from "./support/docs-blocks"
import { repositoryTop } from "./support/sources"

const LISTEN = "app.listen(3000);"

/** Serves the example as it is, and fills the database through a maker of its own, as a script would. */
const runner = `
  import { once } from "node:events"
  import { SessionMaker } from "routing-controllers-typeorm"
  import { server, User } from "./example"

  async function main() {
    if (!server.listening) await once(server, "listening")
    let userId: string | undefined
    if (process.env.DATABASE_URI) {
      const maker = new SessionMaker(process.env.DATABASE_URI)
      const dataSource = await maker.dataSource()
      await dataSource.synchronize()
      const user = await maker.run((session) => session.save(User, { name: "Ada" }))
      userId = user.id
      await maker.close()
    }
    process.send?.({ address: server.address(), userId })
  }

  void main()
`

interface Ready {
  readonly address: { readonly port: number }
  readonly userId?: string
}

interface Example {
  readonly url: string
  readonly userId: string | undefined
  /** @returns what it has logged, once it has logged `text` */
  logged(text: string): Promise<string>
}

describe("the example of README.md", function () {
  this.timeout(60_000)
  const page = { path: "README.md", text: readFileSync(join(repositoryTop, "README.md"), "utf8") }
  const code = blocksOf(page)[0]?.code ?? ""
  let folder = ""
  let child: ChildProcess | undefined

  before("compile it", async () => {
    // Inside the repository, so that the package finds itself by name through its own `exports`.
    folder = mkdtempSync(join(repositoryTop, "dist", "readme-"))
    const served = code.replace(LISTEN, 'export const server = app.listen(0, "127.0.0.1"); export { User };')
    writeFileSync(join(folder, "example.ts"), served)
    writeFileSync(join(folder, "runner.ts"), runner)
    const compilerOptions = { outDir: ".", rootDir: ".", noEmit: false, types: ["node"] }
    const configuration = { extends: "../../tsconfig.json", compilerOptions, include: ["./*.ts"], exclude: [] }
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(configuration))
    const tsc = join(repositoryTop, "node_modules", "typescript", "bin", "tsc")
    await promisify(execFile)(process.execPath, [tsc, "-p", folder, "--pretty", "false"])
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  afterEach(async () => {
    if (child === undefined || child.exitCode !== null) return
    const ended = once(child, "exit")
    child.kill()
    await ended
  })

  async function start(databaseUri: string | undefined): Promise<Example> {
    const env = { ...process.env }
    delete env.DATABASE_URI
    if (databaseUri !== undefined) env.DATABASE_URI = databaseUri
    const started = fork(join(folder, "runner.js"), { env, stdio: ["ignore", "ignore", "pipe", "ipc"] })
    child = started
    let log = ""
    started.stderr?.setEncoding("utf8").on("data", (text) => {
      log += text
    })
    const ended = once(started, "exit").then(([code]) => {
      throw new Error(`The example ended with code ${code}: ${log}`)
    })
    ended.catch(() => {})
    const [ready] = (await Promise.race([once(started, "message"), ended])) as [Ready]
    return {
      url: `http://127.0.0.1:${ready.address.port}`,
      userId: ready.userId,
      async logged(text) {
        while (!log.includes(text)) await Promise.race([once(started.stderr as NodeJS.ReadableStream, "data"), ended])
        return log
      },
    }
  }

  it("is the first block, and listens where the specs can choose the port", () => {
    expect(code).to.include("class UserController")
    expect(code.split(LISTEN)).to.have.length(2)
  })

  describe("on SQLite", () => {
    let created: CreatedDatabase
    let example: Example

    beforeEach(async () => {
      created = (await testDatabases.find(({ isFile }) => isFile)?.createDatabase()) as CreatedDatabase
      example = await start(created.uri)
    })

    afterEach(async () => {
      await created.drop()
    })

    it("gives the name of a user that maker.run() created", async () => {
      const response = await fetch(`${example.url}/${example.userId}`)
      expect([response.status, await response.text()]).to.deep.equal([200, "Ada"])
    })

    it("finds the user by another spelling of the id", async () => {
      const response = await fetch(`${example.url}/${example.userId?.toUpperCase()}`)
      expect([response.status, await response.text()]).to.deep.equal([200, "Ada"])
    })

    it("answers 404 for an unknown id", async () => {
      const response = await fetch(`${example.url}/00000000-0000-4000-8000-000000000000`)
      expect(response.status).to.equal(404)
      expect(await response.json()).to.deep.equal({ name: "NotFoundError", message: "Not found." })
    })

    it("answers 400 for a malformed id", async () => {
      const response = await fetch(`${example.url}/not-a-guid`)
      expect(response.status).to.equal(400)
      expect(await response.text()).to.include("userId must be a UUID")
    })
  })

  describe("where DATABASE_URI is unset", () => {
    it("starts, answers 500, and logs an error that names it", async () => {
      const example = await start(undefined)
      const response = await fetch(`${example.url}/00000000-0000-4000-8000-000000000000`)
      expect(response.status).to.equal(500)
      expect(await response.json()).to.deep.equal({
        name: "InternalServerError",
        message: "Internal server error.",
      })
      expect(await example.logged("DATABASE_URI")).to.match(/SettingsError: .*\n\s*DATABASE_URI is missing/)
    })
  })
})
