import { once } from "node:events"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { expect } from "chai"
import { type Check, checksOf, findRegressions } from "../bench/baseline"
import { type CpuProfile, groupTimes, selfTimes } from "../bench/cpu-profile"
import { type BenchDatabase, createPostgres } from "../bench/databases"
import { startDelayingProxy } from "../bench/delaying-proxy"
import { Load, prepareRequests, timeRequests } from "../bench/load"
import { type Effort, keyOf, openProbe, type Sample, traceWrites } from "../bench/measurements"
import { isMet, measured, measurementsOf, type Samples } from "../bench/rounds"
import { ROWS_OF_TABLE, type Row } from "../bench/rows"

const row: Row = {
  work: "read",
  against: "by hand",
  subject: { kind: "throughput", variant: "session", work: "read" },
  base: { kind: "throughput", variant: "byHand", work: "read" },
  goals: [{ metric: "cpuMicros", as: "ratio", atMost: 0.65 }],
  isShort: true,
}
const [check] = checksOf([row]) as [Check]

const EFFORT: Effort = {
  warmUpRequests: 10,
  resumeRequests: 0,
  measureMs: 20,
  measureRequests: 20,
  timedRequests: 5,
  coldStarts: 1,
}

function samplesOf(own: readonly number[], others: readonly number[]): Samples {
  const samples = (values: readonly number[]): Sample[] => values.map((cpuMicros) => ({ cpuMicros }))
  return new Map([
    [keyOf(row.subject), samples(own)],
    [keyOf(row.base ?? row.subject), samples(others)],
  ])
}

describe("the bench's arithmetic", () => {
  it("takes ratios and differences within a round, and of these the median", () => {
    const samples = samplesOf([10, 40, 90], [20, 50, 100])
    expect(measured(row, { metric: "cpuMicros", as: "ratio" }, samples)).to.equal(0.8)
    expect(measured(row, { metric: "cpuMicros", as: "difference" }, samples)).to.equal(-10)
    expect(measured(row, { metric: "cpuMicros", as: "value" }, samples)).to.equal(40)
  })

  it("holds a value against either kind of goal", () => {
    expect(isMet({ metric: "cpuMicros", as: "ratio", atMost: 0.65 }, 0.65)).to.equal(true)
    expect(isMet({ metric: "cpuMicros", as: "ratio", atMost: 0.65 }, 0.66)).to.equal(false)
    expect(isMet({ metric: "perSecond", as: "ratio", atLeast: 1.5 }, 1.49)).to.equal(false)
    expect(isMet({ metric: "perSecond", as: "ratio", atLeast: 1.5 }, Number.NaN)).to.equal(false)
  })

  it("calls a regression what is more than 15 % worse than the baseline", () => {
    const baseline = { [check.name]: 0.6 }
    expect(findRegressions([check], samplesOf([68], [100]), baseline)).to.deep.equal([])
    expect(findRegressions([check], samplesOf([70], [100]), baseline)).to.have.length(1)
    expect(findRegressions([check], samplesOf([70], [100]), {})).to.deep.equal([])
  })

  it("measures what several rows compare only once in a round", () => {
    const keys = measurementsOf(ROWS_OF_TABLE).map(keyOf)
    expect(new Set(keys).size).to.equal(keys.length)
    expect(keys).to.include(keyOf(row.subject))
  })

  it("sums the self times of a CPU profile by package, without idling and what came before", () => {
    const frames = [
      ["(idle)", ""],
      ["find", "file:///app/node_modules/typeorm/a.js"],
      ["writev", ""],
      ["run", "file:///app/dist/src/session/session.js"],
    ]
    const profile: CpuProfile = {
      nodes: frames.map(([functionName = "", url = ""], id) => ({
        id,
        callFrame: { functionName, url, lineNumber: 6 },
      })),
      startTime: 0,
      samples: [1, 1, 2, 0, 3, 1],
      timeDeltas: [0, 100, 10, 20, 1000, 40],
    }
    expect(selfTimes(profile, 50).map(({ place, micros }) => [place, micros])).to.deep.equal([
      ["run src/session/session.js:7", 40],
      ["writev", 20],
      ["find typeorm/a.js:7", 10],
    ])
    expect(groupTimes(selfTimes(profile, 50)).map(({ group }) => group)).to.deep.equal([
      "this library",
      "V8 and system calls",
      "typeorm",
    ])
  })
})

describe("the bench's load", () => {
  let server: Server
  let port: number
  let answered: number
  let hasFailed: boolean

  beforeEach(async () => {
    answered = 0
    hasFailed = false
    server = createServer((request, response) => {
      answered++
      hasFailed ||= request.url === "/5"
      if (request.url === "/5") response.statusCode = 500
      const body = `body of ${request.url}`
      response.setHeader("Content-Length", body.length)
      response.write(body.slice(0, 3))
      setImmediate(() => response.end(body.slice(3)))
    }).listen(0, "127.0.0.1")
    await once(server, "listening")
    port = (server.address() as AddressInfo).port
  })

  afterEach(async () => {
    server.close()
    await once(server, "close")
  })

  it("sends one request after another, each when the one before is answered in full", async () => {
    const times = await timeRequests(
      port,
      prepareRequests("GET", () => "/1", 1),
      20,
    )
    expect(times).to.have.length(20)
    expect(answered).to.equal(20)
  })

  it("keeps its connections busy until it is stopped", async () => {
    const load = new Load(
      port,
      prepareRequests("POST", () => "/1", 1),
      4,
    )
    await load.start()
    expect(server.listening).to.equal(true)
    while (answered < 100) await once(server, "request")
    await load.stop()
    const atStop = answered
    await new Promise(setImmediate)
    expect(answered).to.equal(atStop)
  })

  it("fails where an answer is no success", async () => {
    const load = new Load(
      port,
      prepareRequests("GET", (number) => `/${number}`, 5),
      2,
    )
    await load.start()
    while (!hasFailed) await once(server, "request")
    await expect(load.stop()).to.be.rejectedWith("HTTP/1.1 500")
  })
})

describe("the bench's servers", function () {
  this.timeout(60_000)
  let database: BenchDatabase

  before(async () => {
    database = await createPostgres()
  })

  after(async () => {
    await database.drop()
  })

  it("send to the database what they are there to be compared by", async () => {
    expect(await traceWrites("byHand", "read", database.uri)).to.deep.equal(["BEGIN", "SELECT", "COMMIT"])
    expect(await traceWrites("byHand", "write", database.uri)).to.deep.equal(["BEGIN", "SELECT", "INSERT", "COMMIT"])
    expect(await traceWrites("barePg", "write", database.uri)).to.deep.equal(["BEGIN", "SELECT", "INSERT", "COMMIT"])
    expect(await traceWrites("plainManager", "read", database.uri)).to.deep.equal(["SELECT"])
    expect(await traceWrites("session", "read", database.uri)).to.deep.equal(["SELECT"])
    expect(await traceWrites("session", "write", database.uri)).to.deep.equal(["BEGIN SELECT", "INSERT", "COMMIT"])
  })

  it("are each measured from a start of their own", async () => {
    const uris = { postgres: database.uri, sqlite: "" }
    for (const kind of ["throughput", "latency", "coldStart", "retained"] as const) {
      const probe = await openProbe({ kind, variant: "session", work: "read" }, uris, EFFORT)
      try {
        for (const [name, value] of Object.entries(await probe.take())) expect(value, name).to.be.greaterThan(0)
      } finally {
        await probe.close()
      }
    }
  })

  it("are delayed by the proxy in each direction", async () => {
    const proxy = await startDelayingProxy(new URL(database.uri), 10)
    const uri = new URL(database.uri)
    uri.host = `127.0.0.1:${proxy.port}`
    try {
      const probe = await openProbe(
        { kind: "coldStart", variant: "session", work: "write" },
        { postgres: uri.href, sqlite: "" },
        EFFORT,
      )
      await probe.take()
      expect(proxy.takeWrites()).to.include("BEGIN SELECT")
    } finally {
      await proxy.stop()
    }
  })
})
