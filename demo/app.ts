import "reflect-metadata"
import Koa from "koa"
import { useContainer } from "routing-controllers"
import { useKoaServer } from "routing-controllers-typeorm"
import { Container } from "typedi"
import { UserController } from "./controllers/user-controller"

/** The application, without a port: the server listens, and specs do it on their own. */
export function createApp(): Koa {
  useContainer(Container)
  return useKoaServer(new Koa(), { controllers: [UserController], development: false })
}
