import { expect } from "chai"
import { Column, Entity, PrimaryColumn, ViewColumn, ViewEntity } from "typeorm"
import { describeOnEach, prepared } from "../support/databases"
import { Deferred } from "../support/deferred"
import { httpEntities } from "../support/http-entities"
import { type SessionApp, startSessionApp, type Work } from "../support/session-app"
import { httpDatabases } from "../support/session-databases"

/** The tables are made before the application starts: what it asks the catalog at its start, it knows of all of them. */
const options = { synchronize: false }

@Entity({ name: "job", ...options })
class Job {
  @PrimaryColumn()
  id!: number

  @Column()
  worker!: number
}

/** To PostgreSQL, `claim` of a row of `job` is a call of `claim(job)`. */
@Entity({ name: "job", ...options })
class ClaimedJob {
  @PrimaryColumn()
  id!: number

  @Column()
  claim!: number
}

@ViewEntity({ name: "next_job", ...options })
class NextJob {
  @ViewColumn()
  id!: number
}

/** As many map a view. */
@Entity({ name: "next_job", ...options })
class NextJobEntity {
  @PrimaryColumn()
  id!: number
}

const schema = [
  "CREATE TABLE job (id integer PRIMARY KEY, worker integer NOT NULL DEFAULT 0)",
  "INSERT INTO job (id) VALUES (1), (2), (3)",
  "CREATE FUNCTION claim(job) RETURNS integer LANGUAGE sql AS 'UPDATE job SET worker = 7 WHERE id = $1.id RETURNING worker'",
  "CREATE VIEW next_job AS SELECT id FROM job WHERE worker = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
]

const postgres = httpDatabases.filter(({ kind }) => kind === "postgres")

describeOnEach("a GET whose read writes, or locks, without looking like it", postgres, (database) => {
  let server: SessionApp

  beforeEach(async () => {
    const entities = [...httpEntities, Job, ClaimedJob, NextJob, NextJobEntity]
    server = await startSessionApp(prepared(database, ...schema), { maker: { entities } })
  })
  afterEach(() => server.stop())

  const workers = () => server.rows("SELECT worker FROM job WHERE worker <> 0 ORDER BY id")

  it("is in a transaction, where a plain read of the same table is not", async () => {
    server.work = (db) => db.find(Job)
    expect((await server.http.get("/json")).json()).to.have.length(3)
    await server.settled()
    expect(server.log.verbs()).to.deep.equal(["SELECT"])
  })

  const claims: Readonly<Record<string, Work>> = {
    "raw SQL": (db) => db.query("SELECT j.claim FROM job j WHERE j.id = 1"),
    "raw SQL without blanks": (db) => db.query('SELECT"j"."claim"FROM"job"AS"j"WHERE"j"."id"=1'),
    "the query builder": (db) =>
      db.createQueryBuilder(Job, "j").select("j.claim", "claim").where("j.id = 1").getRawMany(),
    "the query builder's condition": (db) =>
      db.createQueryBuilder(Job, "j").where("j.id = 1").andWhere("j.claim > 0").getMany(),
    "a column of an entity": (db) => db.findBy(ClaimedJob, { id: 1 }),
    "an order by a column of an entity": (db) =>
      db.find(ClaimedJob, { select: { id: true }, where: { id: 1 }, order: { claim: "ASC" } }),
  }
  for (const [what, claim] of Object.entries(claims)) {
    it(`has the function that attribute notation calls undone where it throws, called by ${what}`, async () => {
      server.work = async (db, ctx) => {
        await claim(db, ctx)
        throw new Error("The action failed.")
      }
      expect((await server.http.get("/json")).status).to.equal(500)
      await server.settled()
      expect(await workers()).to.deep.equal([])
      expect(server.log.verbs()).to.deep.equal(["BEGIN", "SELECT", "ROLLBACK"])
      // Without the throw it is kept, and before the answer: so it is that call which was undone.
      server.work = claim
      expect((await server.http.get("/json")).status).to.equal(200)
      expect(await workers()).to.deep.equal([{ worker: 7 }])
    })
  }

  const reads: Readonly<Record<string, Work>> = {
    "FROM next_job": (db) => db.query("SELECT id FROM next_job"),
    'FROM"next_job"': (db) => db.query('SELECT id FROM"next_job"'),
    "JOIN next_job": (db) => db.query("SELECT j.id FROM job j JOIN next_job n ON n.id = j.id"),
    'JOIN"next_job"': (db) => db.query('SELECT j.id FROM job j JOIN"next_job"n ON n.id = j.id'),
    "a @ViewEntity()": (db) => db.find(NextJob),
    "an @Entity() that is mapped onto it": (db) => db.find(NextJobEntity),
    "a builder that joins it": (db) =>
      db.createQueryBuilder(Job, "j").innerJoin(NextJobEntity, "n", "n.id = j.id").select("j.id", "id").getRawMany(),
    "a builder that names it": (db) => db.createQueryBuilder().select("n.id", "id").from("next_job", "n").getRawMany(),
  }
  for (const [what, read] of Object.entries(reads)) {
    it(`gives a job of a view with FOR UPDATE to one of two workers: ${what}`, async () => {
      const bothHaveRead = new Deferred()
      let haveRead = 0
      server.work = async (db, ctx) => {
        const [job] = (await read(db, ctx)) as Job[]
        haveRead++
        if (haveRead === 2) bothHaveRead.resolve()
        await bothHaveRead.promise
        await db.update(Job, { id: job?.id ?? 0 }, { worker: Number(ctx.query.worker) })
        return { id: job?.id }
      }
      const replies = await Promise.all([1, 2].map((worker) => server.http.get(`/json?worker=${worker}`)))
      expect(replies.map(({ status }) => status)).to.deep.equal([200, 200])
      expect(replies.map((reply) => reply.json())).to.have.deep.members([{ id: 1 }, { id: 2 }])
      expect(await workers()).to.have.deep.members([{ worker: 1 }, { worker: 2 }])
    })
  }
})
