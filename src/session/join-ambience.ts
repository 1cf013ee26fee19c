import {
  type DataSource,
  EntityManager,
  type EntityTarget,
  type ObjectLiteral,
  type QueryRunner,
  Repository,
  type TreeRepository,
} from "typeorm"
import { adoptDataSource } from "../engine/data-source"
import { SessionStateError } from "../errors"
import { currentAmbience, keepAmbience } from "./ambient"
import type { Session } from "./session"
import type { SessionOpener } from "./session-opener"

/**
 * Gives one `DataSource` object a manager that asks for the current session at each call. Read for this: typeorm 1.1.1
 * `entity-manager/EntityManager.js` (every method goes to `this.queryRunner`), `repository/Repository.js` (to its manager, and
 * to a `queryRunner` of its own in `createQueryBuilder` and `extend`), `data-source/DataSource.js` (`transaction`,
 * `getRepository` and `BaseEntity` go to `this.manager`), `query-builder/RelationLoader.js` and `RelationIdLoader.js`.
 *
 * `query()` and `createQueryBuilder()` of the `DataSource` are also called by TypeORM's managers, with their own runner written
 * out, `undefined` where they have none. Who writes it out means it, and is left alone: a manager that the application made with
 * `new EntityManager(dataSource)` is on its own in all that it does, as `save()` of it takes a runner by itself.
 * `spec/session/join-ambience.spec.ts` fails when this changes.
 */
export function joinAmbience(maker: SessionOpener, dataSource: DataSource): DataSource {
  keepAmbience()
  adoptDataSource(dataSource)
  const { manager: before } = dataSource
  if (before instanceof AmbientManager) {
    before.join(maker)
    return dataSource
  }
  const manager = new AmbientManager(maker, dataSource)
  const { query, createQueryBuilder, createEntityManager, relationLoader, relationIdLoader } = dataSource
  Object.assign(dataSource, {
    manager,
    query: (...given: [text: string, parameters?: never, runner?: QueryRunner]) =>
      query.call(dataSource, given[0], given[1], given.length < 3 ? manager.queryRunner : given[2]),
    // Nothing, or a runner, or the entity and its alias, or these and a runner.
    createQueryBuilder: (...given: unknown[]) => {
      const hasRunner = given.length === 1 || given.length > 2
      return Reflect.apply(createQueryBuilder, dataSource, hasRunner ? given : [...given, manager.queryRunner])
    },
    // Custom repository classes are often made with one of their own.
    createEntityManager: (runner?: QueryRunner) =>
      runner ? createEntityManager.call(dataSource, runner) : new AmbientManager(manager.maker, dataSource),
  })
  // Lazy relations are loaded by whoever holds the entity, long after the runner that it was read with was released.
  const { load } = relationLoader
  relationLoader.load = (relation, entities, runner, ...more) =>
    load.call(relationLoader, relation, entities, runner?.isReleased === false ? runner : manager.queryRunner, ...more)
  followCurrentRunner(relationIdLoader, () => manager.queryRunner)
  return dataSource
}

class AmbientManager extends EntityManager {
  #maker: SessionOpener

  constructor(maker: SessionOpener, dataSource: DataSource) {
    super(dataSource)
    this.#maker = maker
    followCurrentRunner(this, () => this.#current()?.queryRunner)
  }

  get maker(): SessionOpener {
    return this.#maker
  }

  /** Another maker takes over, as when specs make one for each. */
  join(maker: SessionOpener): void {
    this.#maker = maker
  }

  override transaction(...given: unknown[]): Promise<never> {
    const session = this.#current()
    return Reflect.apply(session ? session.transaction : super.transaction, session ?? this, given)
  }

  /** TypeORM keeps repositories, and a repository keeps the runner it was made with. */
  override getRepository<Entity extends ObjectLiteral>(target: EntityTarget<Entity>): Repository<Entity> {
    const known = this.repositories.get(target)
    if (known) return known as Repository<Entity>
    const repository = new AmbientRepository<Entity>(target, this)
    this.repositories.set(target, repository as never)
    return repository
  }

  override getTreeRepository<Entity extends ObjectLiteral>(target: EntityTarget<Entity>): TreeRepository<Entity> {
    const repository = super.getTreeRepository(target)
    followCurrentRunner(repository, () => this.queryRunner)
    return repository
  }

  /** @throws {SessionStateError} rather than let the call go on without a transaction */
  #current(): Session | undefined {
    const session = currentAmbience()?.sessionOf(this.#maker)
    if (!(session instanceof Promise)) return session
    session.catch(() => undefined)
    throw new SessionStateError(
      "The current session cannot be joined without waiting, because its SessionMaker is not prepared: " +
        "call await maker.prepare() when the application starts, and again after maker.reset().",
    )
  }
}

/** What `extend()` makes of it is of this class, too. */
class AmbientRepository<Entity extends ObjectLiteral> extends Repository<Entity> {
  constructor(target: EntityTarget<Entity>, manager: EntityManager) {
    super(target, manager)
    followCurrentRunner(this, () => this.manager.queryRunner)
  }
}

function followCurrentRunner(
  target: EntityManager | Repository<ObjectLiteral> | DataSource["relationIdLoader"],
  get: () => QueryRunner | undefined,
): void {
  Object.defineProperty(target, "queryRunner", { get, set: () => undefined, enumerable: false, configurable: true })
}
