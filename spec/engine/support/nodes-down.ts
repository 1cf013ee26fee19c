/**
 * A replica, then the primary, stops answering and comes back, with a `DataSource` that has the recommended settings. Prints what
 * became of them; mysql2's own settings end the process, or leave the node out for good.
 */
import "reflect-metadata"
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"
import { DataSource, type DataSourceOptions, type ReplicationMode } from "typeorm"
import { buildDataSource, SessionMaker } from "../../../src"

/** A port in front of the server that can be shut, with all its connections, and opened again. */
class Gate {
  readonly #open = new Set<Socket>()
  #server: Server | undefined
  port = 0

  constructor(private readonly target: URL) {}

  async open(): Promise<this> {
    this.#server = createServer((client) => {
      const upstream = connect(Number(this.target.port || 3306), this.target.hostname)
      for (const [one, other] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        this.#open.add(one)
        one.pipe(other)
        one.on("error", () => other.destroy())
        one.on("close", () => {
          this.#open.delete(one)
          other.destroy()
        })
      }
    })
    this.#server.listen(this.port, "127.0.0.1")
    await once(this.#server, "listening")
    this.port = (this.#server.address() as { port: number }).port
    return this
  }

  async shut(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve))
    for (const socket of this.#open) socket.destroy()
    await closed
  }
}

const SECONDS = 5

async function main(uri: string, way: string): Promise<void> {
  const target = new URL(uri)
  const primary = await new Gate(target).open()
  const replica = await new Gate(target).open()
  const at = ({ port }: Gate) => ({
    host: "127.0.0.1",
    port,
    username: target.username,
    password: target.password,
    database: target.pathname.slice(1),
  })
  const options: DataSourceOptions = {
    type: "mariadb",
    entities: [],
    replication: { master: at(primary), slaves: [at(replica)] },
  }
  const dataSource = way === "built" ? buildDataSource(options) : new DataSource(options)
  if (way === "given") new SessionMaker(dataSource)
  await dataSource.initialize()

  async function ask(mode: ReplicationMode): Promise<boolean> {
    const runner = dataSource.createQueryRunner(mode)
    try {
      await runner.query("SELECT SLEEP(0.05)")
      return true
    } catch {
      return false
    } finally {
      await runner.release()
    }
  }

  async function outage(gate: Gate, mode: ReplicationMode): Promise<object> {
    // Several connections are open when it happens.
    await Promise.all([ask(mode), ask(mode), ask(mode)])
    await gate.shut()
    // Those that were being opened together fail together: with its own settings, mysql2 ends the process here.
    await Promise.all(Array.from({ length: 10 }, () => ask(mode)))
    let failures = 0
    for (let i = 0; i < 12; i++) if (!(await ask(mode))) failures++
    await gate.open()
    const until = Date.now() + SECONDS * 1_000
    while (Date.now() < until) if (await ask(mode)) return { failures, isBack: true }
    return { failures, isBack: false }
  }

  const result = { replica: await outage(replica, "slave"), primary: await outage(primary, "master") }
  await dataSource.destroy()
  await Promise.all([primary.shut(), replica.shut()])
  process.stdout.write(JSON.stringify(result))
}

void main(process.argv[2] ?? "", process.argv[3] ?? "")
