import type Koa from "koa"
import { useContainer } from "routing-controllers"
import { RequestContainer } from "../../../src/typedi/request-container"
import { type SessionApp, type SessionAppOptions, startSessionApp } from "../../support/session-app"
import type { TestDatabase } from "../../support/test-database"

/** `startSessionApp()` with a container for each request. */
export async function startServiceApp(
  testDatabase: TestDatabase,
  { prepare, ...options }: SessionAppOptions = {},
): Promise<SessionApp> {
  const started = await startSessionApp(testDatabase, {
    ...options,
    prepare(app: Koa) {
      useContainer(new RequestContainer())
      prepare?.(app)
    },
  })
  return {
    ...started,
    async stop() {
      // routing-controllers has no other way to take it back.
      useContainer(undefined as never)
      await started.stop()
    },
  }
}
