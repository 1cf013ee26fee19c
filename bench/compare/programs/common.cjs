/** What the three programs share: the actions, how they are asked for, and what is looked at afterwards. */
const http = require("node:http")

/** `design:*` metadata and property descriptors as TypeScript's decorators get them. */
function decorate(decorators, target, key) {
  if (key === undefined) {
    let one = target
    for (const decorator of [...decorators].reverse()) one = decorator(one) ?? one
    return one
  }
  let descriptor = Object.getOwnPropertyDescriptor(target, key)
  for (const decorator of [...decorators].reverse()) descriptor = decorator(target, key, descriptor) ?? descriptor
  if (descriptor) Object.defineProperty(target, key, descriptor)
}

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/**
 * The actions, written once. `kit` is what code far from the controller has in each package:
 * - `insert(text)`: writes a row, as a service does
 * - `query(sql)`
 * - `nested(fn)`: a part that can fail alone
 * - `own(fn)`: a transaction of its own
 * - `onCommit(fn)`
 * - `existing`: the DataSource, as code knows it that was written before
 * - `status(code)`: sets the response's status without throwing
 */
const actions = {
  async throws(kit) {
    await kit.insert("a")
    await kit.insert("b")
    throw new Error("fails")
  },
  async status(kit) {
    await kit.insert("a")
    kit.status(422)
    return { refused: true }
  },
  async commitFails(kit) {
    await kit.insert("a")
    await kit.query("INSERT INTO remark (note_id) VALUES (4711)")
    return { ok: true }
  },
  async bigint(kit) {
    await kit.insert("a")
    return { n: 1n }
  },
  async forgotten(kit) {
    await kit.insert("a")
    void later(50)
      .then(() => kit.insert("late"))
      .catch(() => undefined)
    throw new Error("fails")
  },
  async caught(kit) {
    await kit.insert("a")
    await kit.insert("a").catch(() => undefined)
    return { ok: true }
  },
  async commits(kit) {
    await kit.query("UPDATE note SET text = text")
    return { ok: true }
  },
  async idle() {
    return { ok: true }
  },
  async parallel(kit) {
    await Promise.all(Array.from({ length: 10 }, (_, index) => kit.insert(`p${index}`)))
    return { ok: true }
  },
  async nestedInParallel(kit) {
    const block = (text, fails) =>
      kit.nested(async () => {
        await kit.insert(text)
        await later(5)
        if (fails) throw new Error("this part fails")
      })
    const ends = await Promise.allSettled([block("a", false), block("b", true), block("c", false)])
    return { ends: ends.map(({ status }) => status) }
  },
  async audit(kit) {
    await kit.insert("request")
    await kit.own(() => kit.insert("audit"))
    throw new Error("fails")
  },
  async existing(kit) {
    await kit.existing.getRepository("note").insert({ text: "a" })
    throw new Error("fails")
  },
  async hook(kit) {
    await kit.insert("a")
    kit.onCommit?.(() => {
      throw new Error("the hook fails")
    })
    return { ok: true, hooks: kit.onCommit !== undefined }
  },
  async slow(kit) {
    await kit.query("SELECT count(*) AS only_reads FROM pg_class a, pg_class b, pg_class c")
    return { ok: true }
  },
}

function ask(port, path, { leaveAfterMs } = {}) {
  return new Promise((resolve) => {
    const sent = http.request({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      let text = ""
      response.on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resolve({ status: response.statusCode, text }))
    })
    sent.on("error", () => resolve({ status: "left", text: "" }))
    sent.end()
    if (leaveAfterMs) setTimeout(() => sent.destroy(), leaveAfterMs)
  })
}

/** Counts what goes to PostgreSQL, below TypeORM. */
function countStatements(pg) {
  const sent = []
  const { query } = pg.Client.prototype
  pg.Client.prototype.query = function countedQuery(first, ...rest) {
    sent.push(typeof first === "string" ? first : (first?.text ?? ""))
    return query.call(this, first, ...rest)
  }
  return sent
}

async function withClient(pg, uri, fn) {
  const client = new pg.Client({ connectionString: uri })
  await client.connect()
  try {
    return await fn(client)
  } finally {
    await client.end()
  }
}

/** Runs every behaviour and prints one JSON object. */
async function runAll({ pg, port, uri, close }) {
  const warnings = []
  process.on("warning", (warning) => warnings.push(warning.message.split("\n")[0]))
  const uncaught = []
  process.on("uncaughtException", (error) => uncaught.push(error.message))
  process.on("unhandledRejection", (error) => uncaught.push(error.message))
  const rows = (client) =>
    client.query("SELECT text FROM note ORDER BY id").then((result) => result.rows.map(({ text }) => text))
  const empty = (client) => client.query("TRUNCATE remark, note")
  const results = {}
  // The first request of a program is not what is looked at.
  await ask(port, "/idle")

  for (const name of Object.keys(actions)) {
    if (["idle", "slow", "commits", "nestedInParallel"].includes(name)) continue
    await withClient(pg, uri, empty)
    const { status, text } = await ask(port, `/${name}`)
    await later(150)
    const left = await withClient(pg, uri, rows)
    results[name] = { status, rows: left }
    if (name === "parallel") results[name].warnings = warnings.length
    if (name === "hook")
      Object.assign(results[name], { hasHooks: /"hooks":true/.test(text), uncaught: uncaught.slice() })
  }

  const sent = countStatements(pg)
  const { status } = await ask(port, "/idle")
  await later(50)
  results.idle = { status, statements: sent.slice() }

  await ask(port, "/slow", { leaveAfterMs: 200 })
  await later(300)
  const running = await withClient(pg, uri, (client) =>
    client.query(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%only_reads%' AND pid <> pg_backend_pid()",
    ),
  )
  results.clientLeaves = { stillRunning: running.rows[0].n }
  await later(6_000)

  // Last, for what it leaves in the pool is looked at, too.
  await withClient(pg, uri, empty)
  const nested = await ask(port, "/nestedInParallel")
  const ends = /ends/.test(nested.text) ? JSON.parse(nested.text).ends : undefined
  results.nestedInParallel = { status: nested.status, rows: await withClient(pg, uri, rows), ends }
  const next = []
  for (let round = 0; round < 3; round++) next.push((await ask(port, "/commits")).status)
  results.requestsAfterIt = { status: next }
  console.log(JSON.stringify(results))
  await close()
}

module.exports = { actions, decorate, runAll }
