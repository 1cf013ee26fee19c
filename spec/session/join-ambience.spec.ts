import { expect } from "chai"
import Koa from "koa"
import { Container } from "typedi"
import {
  BaseEntity,
  Column,
  type DataSource,
  Entity,
  EntityManager,
  ManyToOne,
  OneToMany,
  PrimaryGeneratedColumn,
  Repository,
  Tree,
  TreeChildren,
  TreeParent,
} from "typeorm"
import { buildDataSource } from "../../src/engine/data-source"
import { SessionClosedError, SessionStateError } from "../../src/errors"
import { sessions } from "../../src/koa/sessions"
import { tryCurrentSession } from "../../src/request/current-session"
import type { Session } from "../../src/session/session"
import { SessionMaker } from "../../src/session/session-maker"
import { within } from "../reliability/support/within"
import { type CreatedDatabase, describeOnEach, testDatabases } from "../support/databases"
import { Deferred } from "../support/deferred"
import { listen } from "../support/http"
import { httpEntities, Note } from "../support/http-entities"
import { type SessionApp, startSessionApp } from "../support/session-app"

@Entity()
class Active extends BaseEntity {
  @PrimaryGeneratedColumn()
  id!: number

  @Column()
  text!: string
}

@Entity()
@Tree("materialized-path")
class Folder {
  @PrimaryGeneratedColumn()
  id!: number

  @Column()
  name!: string

  @TreeParent()
  parent!: Folder | null

  @TreeChildren()
  children!: Folder[]
}

@Entity()
class Shelf {
  @PrimaryGeneratedColumn()
  id!: number

  @OneToMany(
    () => Volume,
    (volume) => volume.shelf,
  )
  volumes!: Promise<Volume[]>
}

@Entity()
class Volume {
  @PrimaryGeneratedColumn()
  id!: number

  @ManyToOne(
    () => Shelf,
    (shelf) => shelf.volumes,
  )
  shelf!: Promise<Shelf>
}

class NoteRepository extends Repository<Note> {
  byText(text: string): Promise<Note | null> {
    return this.createQueryBuilder("note").where("note.text = :text", { text }).getOne()
  }
}

const entities = [...httpEntities, Active, Folder, Shelf, Volume]

describeOnEach("maker.ambient(dataSource) in a request", testDatabases, (testDatabase) => {
  let app: SessionApp
  let dataSource: DataSource

  beforeEach(async () => {
    app = await startSessionApp(testDatabase, { sessions: { ambient: true }, maker: { entities } })
    dataSource = app.maker.ambient(await app.maker.dataSource())
    Active.useDataSource(dataSource)
  })
  afterEach(() => app.stop())

  /** What existing code does, and whether it is in the request's transaction: a failing request must leave nothing. */
  async function expectToJoin(write: () => Promise<unknown>, table = "note"): Promise<void> {
    app.work = async (db) => {
      await write()
      const [row] = await db.query(`SELECT count(*) AS n FROM ${table}`)
      expect(Number(row.n), "seen by the session").to.be.above(0)
      throw new Error("undo")
    }
    expect((await app.http.post("/json")).json()).to.have.property("message", "undo")
    expect(await app.rows(`SELECT * FROM ${table}`)).to.deep.equal([])
    app.work = async () => ((await write()) ? {} : {})
    expect((await app.http.post("/json")).status).to.equal(200)
    expect(await app.rows(`SELECT * FROM ${table}`)).to.not.deep.equal([])
    expect(app.maker.stats()).to.include({ committed: 1, rolledBack: 1 })
  }

  it("joins dataSource.getRepository(), also where it was obtained before, outside of any request", async () => {
    const before = dataSource.getRepository(Note)
    await expectToJoin(() => before.save({ text: "a" }))
    expect(dataSource.getRepository(Note)).to.equal(before)
  })

  it("joins dataSource.manager", () => expectToJoin(() => dataSource.manager.insert(Note, { text: "b" })))

  it("joins dataSource.transaction(), as a savepoint", () =>
    expectToJoin(() => dataSource.transaction((manager) => manager.save(Note, { text: "c" }))))

  it("joins dataSource.query()", () => expectToJoin(() => dataSource.query("INSERT INTO note (text) VALUES ('d')")))

  it("joins dataSource.createQueryBuilder(), with an entity and without", async () => {
    await expectToJoin(async () => {
      await dataSource.createQueryBuilder().insert().into(Note).values({ text: "e" }).execute()
      expect(await dataSource.createQueryBuilder(Note, "note").getCount()).to.equal(1)
    })
  })

  it("joins a query builder of a repository", () =>
    expectToJoin(() => dataSource.getRepository(Note).createQueryBuilder().insert().values({ text: "f" }).execute()))

  it("joins BaseEntity active records", () =>
    expectToJoin(async () => {
      await Active.create({ text: "g" }).save()
      expect(await Active.countBy({ text: "g" })).to.equal(1)
    }, "active"))

  it("joins repositories that were extended, in a request too", async () => {
    const custom = {
      byText(this: Repository<Note>, text: string) {
        return this.createQueryBuilder("note").where("note.text = :text", { text }).getOne()
      },
    }
    let made = dataSource.getRepository(Note).extend(custom)
    app.work = async () => {
      made = dataSource.getRepository(Note).extend(custom)
      return {}
    }
    await app.http.post("/json")
    await expectToJoin(async () => {
      await made.save({ text: "h" })
      expect(await made.byText("h")).to.include({ text: "h" })
    })
  })

  it("joins custom repository classes, of the manager or of one of their own", async () => {
    const own = new NoteRepository(Note, dataSource.createEntityManager())
    const shared = new NoteRepository(Note, dataSource.manager)
    await expectToJoin(async () => {
      await own.save({ text: "i" })
      expect(await shared.byText("i")).to.include({ text: "i" })
      expect(await own.byText("i")).to.include({ text: "i" })
    })
  })

  it("joins tree repositories", async () => {
    const folders = dataSource.getTreeRepository(Folder)
    app.work = async () => {
      const root = await folders.save({ name: "root" })
      await folders.save({ name: "leaf", parent: root })
      return { names: (await folders.findDescendants(root)).map(({ name }) => name).sort() }
    }
    expect((await app.http.post("/json")).json()).to.deep.equal({ names: ["leaf", "root"] })
    expect(app.maker.stats()).to.include({ committed: 1 })
  })

  it("is the same session as @Session(), and one statement after another where they run in parallel", async () => {
    app.work = async (db) => {
      const repository = dataSource.getRepository(Note)
      await Promise.all([
        db.insert(Note, { text: "j" }),
        repository.insert({ text: "k" }),
        db.insert(Note, { text: "l" }),
      ])
      return { same: repository.queryRunner === db.queryRunner, count: await repository.count() }
    }
    expect((await app.http.post("/json")).json()).to.deep.equal({ same: true, count: 3 })
  })

  it("gives each of two requests at once its own session through one repository", async () => {
    const repository = dataSource.getRepository(Note)
    const second = new Deferred()
    let calls = 0
    app.work = async (db) => {
      const isFirst = ++calls === 1
      if (isFirst) await second.promise
      second.resolve()
      const same = repository.queryRunner === db.queryRunner
      await repository.insert({ text: `by ${calls} ${isFirst}` })
      return { same }
    }
    const replies = await Promise.all([app.http.post("/json"), app.http.post("/json")])
    expect(replies.map((reply) => reply.json())).to.deep.equal([{ same: true }, { same: true }])
  })

  it("joins a run()", async () => {
    const repository = dataSource.getRepository(Note)
    await expect(
      app.maker.run(async () => {
        await repository.insert({ text: "m" })
        throw new Error("undo")
      }),
    ).to.be.rejectedWith("undo")
    expect(await app.rows("SELECT * FROM note")).to.deep.equal([])
  })

  it("leaves a query runner of one's own alone", async () => {
    app.work = async () => {
      const runner = dataSource.createQueryRunner()
      try {
        return { own: runner.manager.queryRunner === runner, session: runner === tryCurrentSession()?.queryRunner }
      } finally {
        await runner.release()
      }
    }
    expect((await app.http.get("/json")).json()).to.deep.equal({ own: true, session: false })
  })

  // On SQLite in memory there is one connection, which the session has; and a file has one writer.
  if (testDatabase.kind !== "sqlite") {
    it("leaves a manager that the application made alone, in what it reads and in what it writes", async () => {
      const own = new EntityManager(dataSource)
      app.work = async (db) => {
        await db.insert(Note, { text: "of the session" })
        const counts = [
          await own.count(Note),
          await own.getRepository(Note).count(),
          await own.createQueryBuilder(Note, "note").getCount(),
          await own.createQueryBuilder().select("note").from(Note, "note").getCount(),
          (await own.query("SELECT * FROM note")).length,
        ]
        await own.save(Note, { text: "by save" })
        await own.insert(Note, { text: "by insert" })
        await own.transaction((manager) => manager.insert(Note, { text: "by transaction" }))
        throw new Error(counts.join())
      }
      expect((await app.http.post("/json")).json()).to.have.property("message", "0,0,0,0,0")
      const texts = await app.rows("SELECT text FROM note ORDER BY text")
      expect(texts.map(({ text }) => text)).to.deep.equal(["by insert", "by save", "by transaction"])
    })

    // TypeORM's runner for SQLite is never released, and what was read with it goes on with it.
    it("joins with a lazy relation of an entity that was read before", async () => {
      const { id } = await dataSource.manager.save(new Shelf())
      const shelf = await dataSource.manager.findOneByOrFail(Shelf, { id })
      app.work = async (db) => {
        const volume = await db.save(new Volume())
        await db.createQueryBuilder().relation(Shelf, "volumes").of(id).add(volume.id)
        return { volumes: (await shelf.volumes).length }
      }
      expect((await app.http.post("/json")).json()).to.deep.equal({ volumes: 1 })
    })
  }

  it("joins with a query builder and a query whose runner is left out, not with one that is written out", async () => {
    app.work = async (db) => {
      const runnerOf = (builder: object) => Reflect.get(builder, "queryRunner")
      return {
        joined: [
          runnerOf(dataSource.createQueryBuilder()),
          runnerOf(dataSource.createQueryBuilder(Note, "note")),
          runnerOf(dataSource.manager.createQueryBuilder()),
          runnerOf(dataSource.manager.createQueryBuilder(Note, "note")),
        ].map((runner) => runner === db.queryRunner),
        own: [
          runnerOf(dataSource.createQueryBuilder(undefined)),
          runnerOf(dataSource.createQueryBuilder(Note, "note", undefined)),
        ].map((runner) => runner === undefined),
      }
    }
    expect((await app.http.post("/json")).json()).to.deep.equal({ joined: [true, true, true, true], own: [true, true] })
  })

  it("works as before outside of a request", async () => {
    const repository = dataSource.getRepository(Note)
    await repository.save({ text: "n" })
    await expect(
      dataSource.transaction(async (manager) => {
        await manager.insert(Note, { text: "o" })
        throw new Error("undo")
      }),
    ).to.be.rejectedWith("undo")
    await Active.create({ text: "p" }).save()
    expect(await dataSource.createQueryBuilder(Note, "note").getMany()).to.have.length(1)
    expect(await app.rows("SELECT text FROM note")).to.deep.equal([{ text: "n" }])
    expect(app.maker.stats()).to.include({ committed: 0, rolledBack: 0 })
  })

  it("refuses what a failed request left behind, rather than write without a transaction", async () => {
    const repository = dataSource.getRepository(Note)
    const ended = new Deferred()
    const late = new Deferred<unknown>()
    app.work = async () => {
      await repository.insert({ text: "q" })
      void ended.promise.then(() => repository.insert({ text: "late" })).then(late.resolve, late.resolve)
      throw new Error("undo")
    }
    await app.http.post("/json")
    await app.settled()
    ended.resolve()
    expect(await late.promise).to.be.instanceOf(SessionClosedError)
    expect(await app.rows("SELECT * FROM note")).to.deep.equal([])
  })

  it("changes no prototype, and no other DataSource", async () => {
    const other = await app.maker.createDataSource()
    try {
      if (testDatabase.name === "SQLite memory") await other.synchronize()
      app.work = async () => {
        expect(other.manager.queryRunner).to.equal(undefined)
        expect(other.getRepository(Note).queryRunner).to.equal(undefined)
        return {}
      }
      expect((await app.http.get("/json")).status).to.equal(200)
      expect(Object.getOwnPropertyNames(Repository.prototype)).to.not.include("queryRunner")
    } finally {
      await other.destroy()
    }
  })

  it("may be asked for twice; the last maker is the one that is joined", async () => {
    const manager = dataSource.manager
    const second = new SessionMaker(dataSource)
    second.ambient(dataSource)
    expect(dataSource.manager).to.equal(manager)
    await second.run(async (db) => expect(dataSource.manager.queryRunner).to.equal(db.queryRunner))
    await second.close()
  })

  it("throws where the maker is not prepared, rather than write without a transaction", async () => {
    const second = new SessionMaker(app.database.uri, { entities })
    second.ambient(dataSource)
    app.work = async () => {
      await expect(dataSource.getRepository(Note).insert({ text: "r" })).to.be.rejectedWith(
        SessionStateError,
        "prepare()",
      )
      return {}
    }
    expect((await app.http.get("/json")).status).to.equal(200)
    await app.settled()
    await second.close()
  })
})

describeOnEach("maker.ambient(dataSource) where the maker has not started", testDatabases, (testDatabase) => {
  const LIMIT_MS = 3_000
  let database: CreatedDatabase
  let dataSource: DataSource
  let makers: SessionMaker[]

  beforeEach(async () => {
    database = await testDatabase.createDatabase()
    dataSource = buildDataSource(database.uri, { entities: [Active], synchronize: true })
    makers = []
  })
  afterEach(async () => {
    await Promise.all(makers.map((maker) => maker.close({ timeoutMs: 1 })))
    if (dataSource.isInitialized) await dataSource.destroy()
    await database.drop()
  })

  function makeMaker(): SessionMaker {
    const maker = new SessionMaker(dataSource)
    makers.push(maker)
    return maker
  }

  /** Nothing may wait for ever. */
  const soon = async <T>(coming: PromiseLike<T>): Promise<T> => (await within(LIMIT_MS, "an answer", coming)).value

  const active = async () => {
    const rows: { text: string }[] = await dataSource.manager.find(Active, { order: { id: "ASC" } })
    return rows.map(({ text }) => text)
  }

  /** What may be the first statement of all. */
  const first: Record<string, (db: Session) => Promise<unknown>> = {
    "one through the DataSource": () => dataSource.query("INSERT INTO active (text) VALUES ('a')"),
    "one through a repository": () => dataSource.getRepository(Active).save({ text: "a" }),
    "one through the session": (db) => db.insert(Active, { text: "a" }),
    "one of a BaseEntity": () => Active.create({ text: "a" }).save(),
    "a transaction of the DataSource": () => dataSource.transaction((manager) => manager.insert(Active, { text: "a" })),
  }

  for (const isInitialized of [true, false]) {
    const state = isInitialized ? "initialised" : "not initialised"
    for (const [which, write] of Object.entries(first)) {
      it(`joins with the first statement: ${which}, the DataSource ${state}`, async () => {
        if (isInitialized) await dataSource.initialize()
        const maker = makeMaker()
        maker.ambient(dataSource)
        Active.useDataSource(dataSource)
        const failed = maker.run(async (db) => {
          await write(db)
          throw new Error("undo")
        })
        await expect(soon(failed)).to.be.rejectedWith("undo")
        await soon(maker.run(write))
        expect(await soon(active())).to.deep.equal(["a"])
      })

      it(`joins again after reset(): ${which}, the DataSource ${state}`, async () => {
        if (isInitialized) await dataSource.initialize()
        const maker = makeMaker()
        maker.ambient(dataSource)
        Active.useDataSource(dataSource)
        if (isInitialized) await soon(maker.run((db) => db.count(Active)))
        await soon(maker.reset())
        const failed = maker.run(async (db) => {
          await write(db)
          throw new Error("undo")
        })
        await expect(soon(failed)).to.be.rejectedWith("undo")
        await soon(maker.run(write))
        expect(await soon(active())).to.deep.equal(["a"])
      })

      it(`joins the maker that took over: ${which}, the DataSource ${state}`, async () => {
        if (isInitialized) await dataSource.initialize()
        const former = makeMaker()
        former.ambient(dataSource)
        Active.useDataSource(dataSource)
        if (isInitialized) await soon(former.run((db) => db.count(Active)))
        const maker = makeMaker()
        maker.ambient(dataSource)
        const failed = maker.run(async (db) => {
          await write(db)
          throw new Error("undo")
        })
        await expect(soon(failed)).to.be.rejectedWith("undo")
        await soon(maker.run(write))
        expect(await soon(active())).to.deep.equal(["a"])
        expect(former.stats().committed).to.equal(isInitialized ? 1 : 0)
      })
    }
  }

  it("starts in a request, which waits for nothing but the start", async () => {
    await dataSource.initialize()
    const maker = makeMaker()
    maker.ambient(dataSource)
    Container.set(SessionMaker, maker)
    const koa = new Koa()
    koa.use(sessions({ ambient: true }))
    koa.use(async (ctx) => {
      await dataSource.getRepository(Active).save({ text: "a" })
      ctx.body = await dataSource.getRepository(Active).count()
    })
    const http = await listen(koa)
    try {
      const reply = await soon(http.post("/"))
      expect([reply.status, reply.text]).to.deep.equal([200, "1"])
      expect(maker.stats().committed).to.equal(1)
    } finally {
      await http.close()
    }
  })
})
