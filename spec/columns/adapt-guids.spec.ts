import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect } from "chai"
import { Column, DataSource, type DataSourceOptions, Entity, ManyToOne, OneToMany } from "typeorm"
import { adaptGuids } from "../../src/columns/adapt-guids"
import { PrimaryGuid } from "../../src/columns/guid"
import { buildDataSource } from "../../src/engine/data-source"
import { contextSession } from "../../src/session/context-session"
import { SessionMaker } from "../../src/session/session-maker"
import { parseDatabaseUri } from "../../src/settings/database-uri"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"
import { repositoryTop } from "../support/sources"

@Entity()
class Owner {
  @PrimaryGuid() id!: string
  @Column() name!: string
  @OneToMany(
    () => Thing,
    (thing) => thing.owner,
  )
  things?: Thing[]
}

@Entity()
class Thing {
  @PrimaryGuid({ version: 7 }) id!: string
  @Column() name!: string
  @ManyToOne(
    () => Owner,
    (owner) => owner.things,
    { nullable: true },
  )
  owner?: Owner | null
}

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Each way on which a `DataSource` of the application's comes to this package, up to a first save of plain objects. */
const ways: Readonly<Record<string, (dataSource: DataSource) => Promise<Thing[]>>> = {
  "given to SessionMaker before it is initialised": (dataSource) => saveThroughMaker(dataSource),
  "given to SessionMaker when it was initialised": async (dataSource) =>
    saveThroughMaker(await dataSource.initialize()),
  "given to SessionMaker, then initialised by the application": async (dataSource) => {
    const maker = new SessionMaker(dataSource)
    await dataSource.initialize()
    return saveThroughMaker(dataSource, maker)
  },
  "given to SessionMaker by a function": async (dataSource) =>
    saveThroughMaker(dataSource, new SessionMaker(async () => dataSource.initialize())),
  "given to contextSession() before it is initialised": (dataSource) => contextSession(dataSource, save),
  "given to contextSession() when it was initialised": async (dataSource) =>
    contextSession(await dataSource.initialize(), save),
  "given to maker.ambient() when it was initialised": async (dataSource) => {
    const maker = new SessionMaker("sqlite://", { entities: [] })
    maker.ambient(await dataSource.initialize())
    return save(dataSource.manager)
  },
  "given to maker.ambient() before it is initialised": async (dataSource) => {
    new SessionMaker("sqlite://", { entities: [] }).ambient(dataSource)
    await dataSource.initialize()
    return save(dataSource.manager)
  },
}

async function save(manager: DataSource["manager"]): Promise<Thing[]> {
  const owner = await manager.save(Owner, { name: "first" })
  return [
    await manager.save(Thing, { name: "a", owner: { id: owner.id.toUpperCase() } }),
    await manager.save(Thing, { name: "b" }),
  ]
}

async function saveThroughMaker(dataSource: DataSource, maker = new SessionMaker(dataSource)): Promise<Thing[]> {
  try {
    return await maker.run(save)
  } finally {
    await maker.close()
  }
}

describeOnEach(
  "adaptGuids()",
  testDatabases.filter(({ isFile }) => isFile !== false),
  (database) => {
    let created: CreatedDatabase
    let dataSource: DataSource

    function options(): DataSourceOptions {
      return { ...parseDatabaseUri(created.uri), entities: [Owner, Thing] } as DataSourceOptions
    }

    async function pendingChanges(of: DataSource): Promise<string[]> {
      const { upQueries } = await of.driver.createSchemaBuilder().log()
      // TypeORM's `mysql` takes MariaDB's default of every nullable column for another one, GUID or not.
      return upQueries.map(({ query }) => query).filter((sql) => database.kind !== "mysql" || !/ NULL$|KEY/.test(sql))
    }

    beforeEach(async () => {
      created = await database.createDatabase()
      const own = buildDataSource(created.uri, { entities: [Owner, Thing], synchronize: true })
      await own.initialize()
      await own.destroy()
      dataSource = new DataSource(options())
    })

    afterEach(async () => {
      if (dataSource.isInitialized) await dataSource.destroy()
      await created.drop()
    })

    for (const [way, saveFirst] of Object.entries(ways)) {
      it(`fills the ids of the first plain objects that are saved with a DataSource ${way}`, async () => {
        const things = await saveFirst(dataSource)
        for (const { id } of things) expect(id).to.match(ID)
        if (!dataSource.isInitialized) await dataSource.initialize()
        const found = await dataSource.manager.find(Thing, { order: { name: "ASC" }, relations: { owner: true } })
        expect(found.map(({ id }) => id)).to.deep.equal(things.map(({ id }) => id))
        expect(found[0]?.owner).to.include({ name: "first" })
      })
    }

    it("makes the same schema of the application's DataSource as of the maker's own", async () => {
      dataSource.setOptions({ dropSchema: true, synchronize: true })
      const maker = new SessionMaker(dataSource)
      await maker.run((session) => session.count(Owner))
      await maker.close()
      const own = await buildDataSource(created.uri, { entities: [Owner, Thing] }).initialize()
      try {
        expect(await pendingChanges(own)).to.deep.equal([])
      } finally {
        await own.destroy()
      }
    })

    it("adapts again what TypeORM builds anew, on this one object", async () => {
      adaptGuids(dataSource)
      for (let start = 0; start < 2; start++) {
        await dataSource.initialize()
        expect((await dataSource.manager.insert(Thing, { name: "x" })).identifiers[0]?.id).to.match(ID)
        expect(dataSource.subscribers).to.have.length(1)
        await dataSource.destroy()
      }
      expect(Object.hasOwn(dataSource, "buildMetadatas")).to.equal(true)
      expect(Object.hasOwn(new DataSource(options()), "buildMetadatas")).to.equal(false)
    })
  },
)

describe("adaptGuids() with join columns that refer to each other in a circle", () => {
  it("comes to an end", async () => {
    const script = join(repositoryTop, "dist/spec/columns/support/circular-keys.js")
    // It would freeze this process.
    const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 8_000, killSignal: "SIGKILL" })
    expect(JSON.parse(stdout)).to.deep.equal({ latest: 2, versions: 2 })
  })
})
