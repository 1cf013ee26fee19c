import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { expect } from "chai"
import { DemoSettings } from "../demo/settings"
import { type CreatedDatabase, describeOnEach, testDatabases } from "./support/databases"
import { repositoryTop } from "./support/sources"

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** The demo in a process of its own, as `npm run demo` starts it. */
class Demo {
  readonly ended: Promise<Ended>
  #stdout = ""
  #stderr = ""
  readonly #process: ChildProcess

  constructor(environment: NodeJS.ProcessEnv) {
    this.#process = spawn(process.execPath, [join(repositoryTop, "dist", "demo", "server.js")], {
      env: { ...process.env, PORT: "0", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    })
    this.#process.stdout?.setEncoding("utf8").on("data", (text) => {
      this.#stdout += text
    })
    this.#process.stderr?.setEncoding("utf8").on("data", (text) => {
      this.#stderr += text
    })
    this.ended = once(this.#process, "close").then(([code]) => ({
      code,
      stdout: this.#stdout,
      stderr: this.#stderr,
    }))
  }

  /** @returns what it printed, once it says how to stop it; rejects where it ends before */
  async instructions(): Promise<string> {
    while (!this.#stdout.includes("npm run demo\n")) {
      const ended = await Promise.race([this.ended, once(this.#process.stdout as NodeJS.ReadableStream, "data")])
      if ("code" in ended) throw new Error(`The demo ended with code ${ended.code}: ${ended.stderr}`)
    }
    return this.#stdout
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Ended> {
    this.#process.kill(signal)
    return this.ended
  }

  /** Does nothing where it has ended. */
  async destroy(): Promise<void> {
    this.#process.kill("SIGKILL")
    await this.ended
  }
}

interface Curl {
  readonly label: string
  readonly url: string
  readonly init: RequestInit
}

/** The printed lines `  label   curl ...`, in order. */
function curlLines(text: string): Curl[] {
  return [...text.matchAll(/^ {2}(\S.*?) +curl (.+)$/gm)].map(([, label = "", given = ""]) => {
    const words = given.split(" ")
    const init: RequestInit = { headers: { connection: "close" } }
    let url = ""
    for (let word = words.shift(); word !== undefined; word = words.shift()) {
      if (word === "-X") init.method = words.shift() ?? ""
      else if (word === "-d") Object.assign(init, { method: "POST", body: new URLSearchParams(words.shift()) })
      else if (word.startsWith("http://")) url = word
      else if (word !== "-i") throw new Error(`The specs do not know curl's ${word}`)
    }
    return { label, url, init }
  })
}

const withServers = testDatabases.filter(({ isFile, kind }) => isFile === true || kind !== "sqlite")

describe("the demo", function () {
  this.timeout(30_000)
  let demo: Demo | undefined
  let created: CreatedDatabase | undefined

  function start(environment: NodeJS.ProcessEnv): Demo {
    demo = new Demo(environment)
    return demo
  }

  afterEach(async () => {
    await demo?.destroy()
    await created?.drop()
    demo = undefined
    created = undefined
  })

  describeOnEach("its curl lines", withServers, (database) => {
    it("answer as they say, and then SIGTERM ends it", async () => {
      created = await database.createDatabase()
      const running = start({ DATABASE_URI: created.uri })
      const lines = curlLines(await running.instructions())
      const answers: unknown[] = []
      for (const { label, url, init } of lines) {
        const response = await fetch(url, init)
        const text = await response.text()
        expect(text).to.not.match(/select|insert|sqlite|syntax|node_modules/i)
        answers.push([label, response.status, label === "a name" ? text : undefined])
      }
      expect(answers).to.deep.equal([
        ["a name", 200, "Ada"],
        ["a page", 200, undefined],
        ["a new one", 201, undefined],
        ["404", 404, undefined],
        ["400", 400, undefined],
        ["delete", 204, undefined],
      ])
      expect(await running.stop()).to.deep.include({ code: 0, stderr: "" })
    })

    it("have left their work there when it is started again", async () => {
      created = await database.createDatabase()
      const first = start({ DATABASE_URI: created.uri })
      for (const { url, init } of curlLines(await first.instructions())) await (await fetch(url, init)).text()
      await first.stop("SIGINT")
      const lines = curlLines(await start({ DATABASE_URI: created.uri }).instructions())
      const page = lines.find(({ label }) => label === "a page")
      const users = (await (await fetch(page?.url ?? "", page?.init)).json()) as { name: string }[]
      expect(users.map(({ name }) => name)).to.deep.equal(["Barbara", "Grace", "Linus"])
    })
  })

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    it(`ends by itself with code 0 on ${signal}, also with a client that keeps its connection open`, async () => {
      const running = start({ DATABASE_URI: "sqlite://" })
      const [line] = curlLines(await running.instructions())
      // Without "connection: close" fetch keeps it for later.
      await (await fetch(line?.url ?? "")).text()
      const { code, stdout } = await running.stop(signal)
      expect(code).to.equal(0)
      expect(stdout).to.match(/Stopped\.\n$/)
    })
  }

  it("says which database it runs on", async () => {
    expect(await start({ DATABASE_URI: "sqlite://" }).instructions()).to.include("(SQLite in memory)")
  })

  it("takes a file in an ignored folder where DATABASE_URI is unset", () => {
    expect(DemoSettings.load({})).to.deep.include({ port: 3000 })
    expect(DemoSettings.load({}).databaseUri).to.match(/^sqlite:\/\/\/.*demo\/data\/demo\.db$/)
  })

  describe("where it cannot start", () => {
    const taken: Server = createServer()
    before(async () => {
      taken.listen(0)
      await once(taken, "listening")
    })
    after(() => taken.close())

    it("names a port that is taken, and ends with code 1", async () => {
      const { port } = taken.address() as AddressInfo
      const { code, stderr } = await start({ DATABASE_URI: "sqlite://", PORT: String(port) }).ended
      expect(code).to.equal(1)
      expect(stderr).to.equal(`Port ${port} is taken. Choose another one: PORT=${port + 1} npm run demo\n`)
    })

    it("names a database that cannot be reached without its password, and ends with code 1", async () => {
      const { port } = taken.address() as AddressInfo
      taken.once("connection", (socket) => socket.destroy())
      const uri = `postgres://ada:correct-horse@127.0.0.1:${port}/app`
      const { code, stdout, stderr } = await start({ DATABASE_URI: uri }).ended
      expect(code).to.equal(1)
      expect(stderr).to.match(/^DatabaseUnavailableError: .*127\.0\.0\.1/)
      expect(stdout + stderr).to.not.include("correct-horse")
    })

    it("names a setting that is wrong, and ends with code 1", async () => {
      const { code, stderr } = await start({ DATABASE_URI: "sqlite://", PORT: "eighty" }).ended
      expect(code).to.equal(1)
      expect(stderr).to.match(/^SettingsError: .*\n {2}PORT is invalid: must be a number\n$/)
    })
  })
})
