/** A controller with a chain of services behind it: `--container request` or `--container global`. */
import "reflect-metadata"
import Koa from "koa"
import { type ClassConstructor, Get, JsonController, useContainer } from "routing-controllers"
import { RequestContainer, SessionMaker, useKoaServer } from "routing-controllers-typeorm"
import { Container, Service } from "typedi"
import { databaseUri } from "./data-source"
import { ENTITIES } from "./entities"
import { serve } from "./serve"

const DEPTH = 20

interface Chained {
  depth(): number
}

type ChainedClass = new (inner: Chained) => Chained

class InnermostService implements Chained {
  depth(): number {
    return 1
  }
}

function chainedClass(): ChainedClass {
  return class ChainedService implements Chained {
    constructor(private readonly inner: Chained) {}

    depth(): number {
      return this.inner.depth() + 1
    }
  }
}

/** Decorated as the compiler would: so deep a chain is not worth its twenty classes in source. */
function chain(global: boolean): ChainedClass {
  let outermost: ChainedClass = InnermostService
  Service({ global })(outermost)
  for (let depth = 1; depth < DEPTH; depth++) {
    const next = chainedClass()
    Reflect.defineMetadata("design:paramtypes", [outermost], next)
    Service({ global })(next)
    outermost = next
  }
  return outermost
}

const isGlobal = process.argv[process.argv.indexOf("--container") + 1] === "global"
const Outermost = chain(isGlobal)

@JsonController()
class DepthController {
  constructor(private readonly services: Chained) {}

  @Get("/services")
  depth(): { readonly depth: number } {
    return { depth: this.services.depth() }
  }
}

Reflect.defineMetadata("design:paramtypes", [Outermost], DepthController)
Service({ global: isGlobal })(DepthController)
Container.set(SessionMaker, new SessionMaker(databaseUri(), { entities: ENTITIES }))
useContainer(
  isGlobal ? { get: <T>(someClass: ClassConstructor<T>) => Container.get(someClass) } : new RequestContainer(),
)
serve(useKoaServer(new Koa(), { controllers: [DepthController] }).callback())
