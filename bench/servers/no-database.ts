/** The same route as in `session.ts`, without this library. */
import "reflect-metadata"
import Koa from "koa"
import { Get, JsonController, useKoaServer } from "routing-controllers"
import { serve } from "./serve"

@JsonController()
class PingController {
  @Get("/ping")
  ping(): { readonly pong: boolean } {
    return { pong: true }
  }
}

serve(useKoaServer(new Koa(), { controllers: [PingController] }).callback())
