/**
 * Child process of a soak run: the bank's application, for as long as its parent wants it. It is told the database's URI in
 * a message, answers with its port, and ends by itself after the message "stop".
 */
import "reflect-metadata"
import { once } from "node:events"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import Koa from "koa"
import { SessionMaker, shutdown, useKoaServer } from "routing-controllers-typeorm"
import { Container } from "typedi"
import { ACQUIRE_TIMEOUT_MS, ANSWER_TIMEOUT_MS, POOL_SIZE, STATEMENT_TIMEOUT_MS } from "./bank"
import { BankController, StateController } from "./controllers"
import { countReported } from "./reported"
import type { ServerOrder } from "./server-process"

async function serve({ uri, resolveCommits }: ServerOrder): Promise<void> {
  const maker = new SessionMaker(uri, {
    poolSize: POOL_SIZE,
    acquireTimeoutMs: ACQUIRE_TIMEOUT_MS,
    timeoutMs: STATEMENT_TIMEOUT_MS,
    answerTimeoutMs: ANSWER_TIMEOUT_MS,
    ...(resolveCommits && { resolveCommits }),
    retries: 5,
  })
  Container.set(SessionMaker, maker)
  const app = new Koa()
  app.on("error", countReported)
  useKoaServer(app, { controllers: [BankController, StateController], development: false })
  const server = createServer(app.callback())
  // A connection that ends by itself while the next request is on its way would look like a lost answer.
  server.keepAliveTimeout = 0
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  process.on("message", (message) => {
    if (message === "stop") void stop(server, maker)
  })
  process.send?.({ port: (server.address() as AddressInfo).port })
}

async function stop(server: Server, maker: SessionMaker): Promise<void> {
  const hasFinished = await shutdown(server, maker, { timeoutMs: 10_000 })
  if (!hasFinished) process.exitCode = 2
  process.removeListener("disconnect", leave)
  if (process.connected) process.disconnect()
}

function leave(): void {
  process.exit(3)
}

process.once("disconnect", leave)
process.once("message", (message: ServerOrder) => void serve(message))
