import {
  type DataSource,
  EntityManager,
  type EntityTarget,
  type ObjectLiteral,
  type QueryRunner,
  Repository,
} from "typeorm"
import { currentAmbience } from "./ambient"
import type { Session } from "./session"
import type { SessionOpener } from "./session-opener"

/**
 * Gives one `DataSource` object a manager that asks for the current session at each call. Read for this: typeorm 1.1.1
 * `entity-manager/EntityManager.js` (every method goes to `this.queryRunner`), `repository/Repository.js` (to its manager, and
 * to a `queryRunner` of its own in `createQueryBuilder`), `data-source/DataSource.js` (`transaction`, `getRepository` and
 * `BaseEntity` go to `this.manager`). `spec/session/join-ambience.spec.ts` fails when this changes.
 */
export function joinAmbience(maker: SessionOpener, dataSource: DataSource): DataSource {
  if (dataSource.manager instanceof AmbientManager) return dataSource
  const manager = new AmbientManager(maker, dataSource)
  const { query, createQueryBuilder } = dataSource
  Object.assign(dataSource, {
    manager,
    query: (text: string, parameters?: unknown[], runner?: QueryRunner) =>
      query.call(dataSource, text, parameters as never, runner ?? manager.queryRunner),
    // Either the entity, its alias and perhaps a runner, or perhaps a runner alone.
    createQueryBuilder: (...given: unknown[]) => {
      const runnerAt = typeof given[1] === "string" ? 2 : 0
      const all = given.slice()
      all[runnerAt] ??= manager.queryRunner
      return Reflect.apply(createQueryBuilder, dataSource, all)
    },
  })
  return dataSource
}

class AmbientManager extends EntityManager {
  readonly #maker: SessionOpener

  constructor(maker: SessionOpener, dataSource: DataSource) {
    super(dataSource)
    this.#maker = maker
    followCurrentRunner(this, () => this.#current()?.queryRunner)
  }

  override transaction(...given: unknown[]): Promise<never> {
    const session = this.#current()
    return Reflect.apply(session ? session.transaction : super.transaction, session ?? this, given)
  }

  /** TypeORM keeps repositories, and a repository keeps the runner it was made with. */
  override getRepository<Entity extends ObjectLiteral>(target: EntityTarget<Entity>): Repository<Entity> {
    const repository = super.getRepository(target)
    if (!Object.getOwnPropertyDescriptor(repository, "queryRunner")?.get) {
      followCurrentRunner(repository, () => this.#current()?.queryRunner)
    }
    return repository
  }

  #current(): Session | undefined {
    const session = currentAmbience()?.sessionOf(this.#maker)
    return session instanceof Promise ? undefined : session
  }
}

function followCurrentRunner(
  target: EntityManager | Repository<ObjectLiteral>,
  get: () => QueryRunner | undefined,
): void {
  Object.defineProperty(target, "queryRunner", { get, set: () => undefined, enumerable: false, configurable: true })
}
