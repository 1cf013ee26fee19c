/** Child process of `shutdown.spec.ts`: a server that `SIGTERM` stops. It tells its parent what happens and is not to end itself. */
import "reflect-metadata"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import Koa from "koa"
import { JsonController, Post, QueryParam } from "routing-controllers"
import { Container } from "typedi"
import { Session } from "../../../src/decorators/session"
import { shutdown } from "../../../src/koa/shutdown"
import { useKoaServer } from "../../../src/koa/use-koa-server"
import { SessionMaker } from "../../../src/session/session-maker"

export type ShutdownMessage =
  | { readonly port: number }
  | { readonly received: number }
  | { readonly entered: number }
  | { readonly hasFinished: boolean; readonly tookMs: number; readonly open: number }

const tell = (message: ShutdownMessage) => process.send?.(message)
let received = 0
let entered = 0

@JsonController()
class WorkController {
  @Post("/work")
  async work(@Session() session: Session, @QueryParam("text") text: string, @QueryParam("for") how: string) {
    await session.query(`INSERT INTO memo (text) VALUES ('${text} 1')`)
    tell({ entered: ++entered })
    if (how === "ever") await new Promise(() => undefined)
    else if (how.startsWith("SELECT")) await session.query(how)
    else await delay(Number(how))
    await session.query(`INSERT INTO memo (text) VALUES ('${text} 2')`)
    return { ok: true }
  }
}

async function main(): Promise<void> {
  const [uri = "", timeoutMs = "0"] = process.argv.slice(2)
  const maker = new SessionMaker(uri, { poolSize: 5 })
  Container.set(SessionMaker, maker)
  const app = new Koa().use((_, next) => {
    tell({ received: ++received })
    return next()
  })
  useKoaServer(app, { controllers: [WorkController] })
  app.silent = true
  const server = createServer(app.callback()).listen(0, "127.0.0.1")
  await once(server, "listening")
  process.once("SIGTERM", async () => {
    const startedAt = performance.now()
    const hasFinished = await shutdown(server, maker, { timeoutMs: Number(timeoutMs) })
    tell({ hasFinished, tookMs: performance.now() - startedAt, open: maker.stats().open })
  })
  tell({ port: (server.address() as AddressInfo).port })
}

void main()
