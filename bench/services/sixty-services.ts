import "reflect-metadata"
import { Get, JsonController, QueryParam } from "routing-controllers"
import { InjectSession, Session, type SessionMaker } from "routing-controllers-typeorm"
import { Inject, Service, Token } from "typedi"
import { Column, Entity, PrimaryGeneratedColumn } from "typeorm"

const LEVELS = 5
const WIDTH = 12
/** Which services of the level below each is given. */
const STEPS = [0, 1, 5]

/** The second database; the first is under `SessionMaker`. */
export const Analytics = new Token<SessionMaker>("analytics of the sixty services")

@Entity()
export class Visit {
  @PrimaryGeneratedColumn()
  id!: number

  @Column()
  marker!: string
}

export interface Member {
  readonly session: Session
  readonly isAnalytics: boolean
  readonly below: readonly Member[]
}

type MemberClass = new (session: Session, ...below: Member[]) => Member

/** What a `@Service() class Orders { constructor(@InjectSession() db: Session, items: Items, ...) {} }` comes to. */
function defineService(below: readonly MemberClass[], isAnalytics: boolean): MemberClass {
  class SomeService implements Member {
    readonly isAnalytics = isAnalytics
    readonly below: readonly Member[]
    constructor(
      readonly session: Session,
      ...dependencies: Member[]
    ) {
      // typedi gives its container as one more.
      this.below = dependencies.slice(0, below.length)
    }
  }
  Reflect.defineMetadata("design:paramtypes", [Object, ...below], SomeService)
  InjectSession(isAnalytics ? { maker: Analytics } : {})(SomeService, undefined, 0)
  Service()(SomeService)
  return SomeService
}

function defineServices(): readonly MemberClass[][] {
  const levels: MemberClass[][] = []
  for (let level = 0; level < LEVELS; level++) {
    const below = levels[level - 1] ?? []
    levels.push(
      Array.from({ length: WIDTH }, (_, index) => {
        const dependencies = below.length === 0 ? [] : STEPS.map((step) => below[(index + step) % WIDTH])
        return defineService(dependencies as MemberClass[], (level + index) % 2 === 1)
      }),
    )
  }
  return levels
}

const services = defineServices()
export const SERVICE_COUNT = services.flat().length

@Service()
class Roots {
  readonly members: readonly Member[]
  /** typedi's container of the request, which it gives as one more parameter */
  readonly container: unknown
  constructor(...given: unknown[]) {
    this.members = given.slice(0, WIDTH) as Member[]
    this.container = given.at(-1)
  }
}
Reflect.defineMetadata("design:paramtypes", services.at(-1), Roots)

/** Called with what each request was given, before it is used. */
export const observer: { onRequest?: (marker: string, members: readonly Member[]) => Promise<void> | void } = {}

@JsonController("/visits")
@Service()
export class VisitController {
  @Inject()
  readonly roots!: Roots

  /** Every service writes and reads through its own session, in turn. */
  @Get("/")
  async visit(
    @QueryParam("marker") marker: string,
    @QueryParam("statements") statements: number | undefined,
    @Session() db: Session,
    @Session({ maker: Analytics }) analytics: Session,
  ): Promise<object> {
    const members = [...membersOf(this.roots.members)]
    await observer.onRequest?.(marker, members)
    const foreign = members.filter(({ isAnalytics, session }) => session !== (isAnalytics ? analytics : db))
    if (statements === 0) return { services: members.length, foreign: foreign.length }
    // In one order for all requests: with full pools, two orders would wait for each other.
    await db.insert(Visit, { marker })
    await analytics.insert(Visit, { marker })
    let strange = 0
    for (const { session } of members) {
      const [own, all] = [await session.countBy(Visit, { marker }), await session.count(Visit)]
      if (own !== 1 || all !== 1) strange++
    }
    await analytics.rollback()
    await db.rollback()
    return { services: members.length, foreign: foreign.length, strange }
  }
}

export function membersOf(roots: readonly Member[], found = new Set<Member>()): Set<Member> {
  for (const member of roots) {
    if (found.has(member)) continue
    found.add(member)
    membersOf(member.below, found)
  }
  return found
}
