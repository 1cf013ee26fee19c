import "reflect-metadata"
import { expect } from "chai"
import { Column, DataSource, Entity, In, ManyToOne, Not, OneToMany } from "typeorm"
import { adaptGuids } from "../../src/columns/adapt-guids"
import { GUID_SERVER_DEFAULT_POSTGRES, Guid, PrimaryGuid } from "../../src/columns/guid"
import { setupGuidsPostgres } from "../../src/columns/setup-guids-postgres"
import { InvalidGuidError, SessionOptionsError } from "../../src/errors"
import { parseDatabaseUri } from "../../src/settings/database-uri"
import { type CreatedDatabase, type DatabaseKind, describeOnEach, testDatabases } from "../support/databases"

/** The same GUID as people and other systems write it. */
function spellings(guid: string): Record<string, string> {
  return {
    "the canonical form": guid,
    "upper case": guid.toUpperCase(),
    braces: `{${guid.toUpperCase()}}`,
    "32 hex digits": guid.replaceAll("-", ""),
    "a urn": `urn:uuid:${guid}`,
  }
}

const NO_GUIDS: readonly unknown[] = ["", "not-a-guid", "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b' OR 1=1", 42, true]

const VERSION_4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const VERSION_7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

@Entity()
class Author {
  @PrimaryGuid() id!: string
  @Column() name!: string
  @Guid({ nullable: true, unique: true }) ticket?: string | null
  @OneToMany(
    () => Book,
    (book) => book.author,
    { cascade: true },
  )
  books?: Book[]
}

@Entity()
class Book {
  @PrimaryGuid({ version: 7 }) id!: string
  @Column() title!: string
  @Guid({ generate: "application" }) edition!: string
  @ManyToOne(
    () => Author,
    (author) => author.books,
    { nullable: true },
  )
  author?: Author | null
}

@Entity()
class Served {
  @PrimaryGuid({ generate: "server" }) id!: string
  @Column() name!: string
}

interface Variant {
  readonly made: string
  readonly isAdapted: boolean
  readonly scheme: string
}

/** TypeORM's `mariadb` has a uuid type, its `mysql` has none, whichever server answers. */
function variants(kind: DatabaseKind): Variant[] {
  const made = [
    { made: "this package", isAdapted: true, scheme: "mysql" },
    { made: "the application", isAdapted: false, scheme: "mysql" },
  ]
  if (kind !== "mysql") return made
  return [...made, ...made.map((one) => ({ ...one, made: `${one.made}, as mariadb://`, scheme: "mariadb" }))]
}

class Statements {
  readonly sent: string[] = []
  logQuery(query: string): void {
    this.sent.push(query)
  }
  logQueryError(): void {}
  logQuerySlow(): void {}
  logSchemaBuild(): void {}
  logMigration(): void {}
  log(): void {}
}

describeOnEach(
  "Guid columns",
  testDatabases.filter(({ isFile }) => isFile !== true),
  ({ kind }) => {
    for (const { made, isAdapted, scheme } of variants(kind)) {
      describe(`with a DataSource made by ${made}`, () => {
        const statements = new Statements()
        let created: CreatedDatabase
        let dataSource: DataSource

        before(async () => {
          const database = testDatabases.find((one) => one.kind === kind && one.isFile !== true)
          if (database === undefined) throw new Error("no such database")
          created = await database.createDatabase()
          dataSource = new DataSource({
            ...parseDatabaseUri(created.uri.replace(/^mysql(?=:)/, scheme)),
            entities: [Author, Book, Served],
            synchronize: true,
            logger: statements,
            logging: true,
          })
          if (isAdapted) adaptGuids(dataSource)
          await dataSource.initialize()
        })

        after(async () => {
          if (dataSource?.isInitialized) await dataSource.destroy()
          await created?.drop()
        })

        it("sets the id on an entity that is saved", async () => {
          const author = await dataSource.manager.save(Object.assign(new Author(), { name: "saved" }))
          expect(author.id).to.match(VERSION_4)
          expect(await dataSource.manager.findOneByOrFail(Author, { id: author.id })).to.include({ name: "saved" })
        })

        it("sets the id on a plain object that is saved", async () => {
          const author = await dataSource.manager.save(Author, { name: "plain" })
          expect(author.id).to.match(VERSION_4)
          expect(await dataSource.manager.existsBy(Author, { id: author.id })).to.equal(true)
        })

        it("sets the ids on plain objects that are inserted, and reports them", async () => {
          const rows: Partial<Author>[] = [{ name: "a" }, { name: "b" }]
          const result = await dataSource.manager.insert(Author, rows)
          expect(rows.map(({ id }) => id)).to.deep.equal(result.identifiers.map(({ id }) => id))
          expect(rows[0]?.id).to.match(VERSION_4).and.not.equal(rows[1]?.id)
          expect(await dataSource.manager.findOneByOrFail(Author, { id: rows[1]?.id ?? "" })).to.include({ name: "b" })
        })

        it("sets the id through an insert query builder", async () => {
          const row: Partial<Author> = { name: "built" }
          await dataSource.createQueryBuilder().insert().into(Author).values(row).execute()
          expect(await dataSource.manager.existsBy(Author, { id: row.id ?? "" })).to.equal(true)
        })

        it("keeps an id that was given, in canonical form in the database", async () => {
          const id = crypto.randomUUID()
          await dataSource.manager.insert(Author, { id: `{${id.toUpperCase()}}`, name: "given" })
          const table = dataSource.driver.escape(dataSource.getMetadata(Author).tableName)
          const rows: { id: string }[] = await dataSource.query(`SELECT id FROM ${table} WHERE id = '${id}'`)
          expect(rows).to.deep.equal([{ id }])
        })

        for (const kindOfSpelling of Object.keys(spellings(crypto.randomUUID()))) {
          it(`finds, updates and deletes a row by ${kindOfSpelling}`, async () => {
            const { id } = await dataSource.manager.save(Author, { name: "sought" })
            const spelling = spellings(id)[kindOfSpelling] ?? ""
            expect(await dataSource.manager.findOneByOrFail(Author, { id: spelling })).to.include({ id })
            expect(await dataSource.manager.countBy(Author, { id: In([spelling, crypto.randomUUID()]) })).to.equal(1)
            expect(await dataSource.manager.countBy(Author, { id: Not(spelling), name: "sought" })).to.equal(0)
            await dataSource.manager.update(Author, spelling, { name: "updated" })
            expect(await dataSource.manager.countBy(Author, { id, name: "updated" })).to.equal(1)
            await dataSource.manager.delete(Author, { id: spelling })
            expect(await dataSource.manager.existsBy(Author, { id })).to.equal(false)
          })
        }

        it("refuses a value that is no GUID before anything is sent", async () => {
          statements.sent.length = 0
          for (const id of NO_GUIDS as string[]) {
            await expect(dataSource.manager.findOneBy(Author, { id })).to.be.rejectedWith(InvalidGuidError, "Author.id")
            await expect(dataSource.manager.findBy(Author, { id: In([id]) })).to.be.rejectedWith(InvalidGuidError)
            await expect(dataSource.manager.insert(Author, { id, name: "x" })).to.be.rejectedWith(InvalidGuidError)
          }
          await expect(dataSource.manager.delete(Author, "no-guid")).to.be.rejectedWith(InvalidGuidError)
          expect(statements.sent.filter((sql) => !/^(BEGIN|START|ROLLBACK)/i.test(sql))).to.deep.equal([])
        })

        it("makes ascending ids of version 7", async () => {
          const books = Array.from({ length: 20 }, (_, index) => Object.assign(new Book(), { title: String(index) }))
          await dataSource.manager.save(books)
          expect(books[0]?.id).to.match(VERSION_7)
          const found = await dataSource.manager.find(Book, { order: { id: "ASC" } })
          expect(found.map(({ title }) => title)).to.deep.equal(books.map(({ title }) => title))
          await dataSource.manager.clear(Book)
        })

        it("leaves a nullable Guid() empty, stores one that is given and fills one that generates", async () => {
          const { id, ticket } = await dataSource.manager.save(Author, { name: "none" })
          expect(ticket ?? null).to.equal(null)
          const given = crypto.randomUUID()
          await dataSource.manager.update(Author, { id }, { ticket: given.toUpperCase() })
          expect(await dataSource.manager.findOneByOrFail(Author, { ticket: `{${given}}` })).to.include({
            ticket: given,
          })
          const book = await dataSource.manager.save(Object.assign(new Book(), { title: "t" }))
          expect(book.edition).to.match(VERSION_4)
          await dataSource.manager.clear(Book)
        })

        it("inserts related entities by cascade", async () => {
          const author = Object.assign(new Author(), { name: "cascade" })
          author.books = [Object.assign(new Book(), { title: "one" }), Object.assign(new Book(), { title: "two" })]
          await dataSource.manager.save(author)
          const found = await dataSource.manager.findOneOrFail(Author, {
            where: { id: author.id },
            relations: { books: true },
          })
          expect(found.books).to.have.length(2)
          expect(await dataSource.manager.countBy(Book, { author: { id: author.id.toUpperCase() } })).to.equal(2)
          await dataSource.manager.deleteAll(Book)
        })

        it("has the database make the id where it can, the application elsewhere", async () => {
          const row: Partial<Served> = { name: "s" }
          statements.sent.length = 0
          await dataSource.manager.insert(Served, row)
          expect(row.id).to.match(VERSION_4)
          expect(/DEFAULT/.test(statements.sent.join())).to.equal(kind === "postgres")
          expect((await dataSource.manager.save(Object.assign(new Served(), { name: "t" }))).id).to.match(VERSION_4)
        })

        it("leaves nothing to synchronise", async () => {
          const { upQueries } = await dataSource.driver.createSchemaBuilder().log()
          // TypeORM's `mysql` takes MariaDB's default of every nullable column for another one, GUID or not.
          const changes = upQueries.filter(({ query }) => kind !== "mysql" || !/ NULL$|FOREIGN KEY/.test(query))
          expect(changes.map(({ query }) => query)).to.deep.equal([])
        })

        if (isAdapted) {
          it("sets an id of version 7 on plain objects", async () => {
            const row: Partial<Book> = { title: "plain" }
            await dataSource.manager.insert(Book, row)
            expect(row.id).to.match(VERSION_7)
            expect((await dataSource.manager.save(Book, { title: "plain" })).id).to.match(VERSION_7)
            await dataSource.manager.clear(Book)
          })

          it("makes ids when listeners are off", async () => {
            const author = await dataSource.manager.save(Author, { name: "quiet" }, { listeners: false })
            expect(author.id).to.match(VERSION_4)
          })

          it("canonicalises a foreign key", async () => {
            const author = await dataSource.manager.save(Author, { name: "fk" })
            const book = await dataSource.manager.save(Book, { title: "fk", author: { id: author.id.toUpperCase() } })
            const found = await dataSource.manager.findOneOrFail(Book, {
              where: { id: book.id },
              relations: { author: true },
            })
            expect(found.author?.id).to.equal(author.id)
            await dataSource.manager.clear(Book)
          })
        }

        if (kind === "postgres") {
          it("is a native uuid column, with a default only where the server makes the id", async () => {
            const columns: { table_name: string; data_type: string; column_default: string | null }[] =
              await dataSource.query(
                "SELECT table_name, data_type, column_default FROM information_schema.columns WHERE column_name = 'id'",
              )
            const found = new Map(columns.map((column) => [column.table_name, column]))
            expect(found.get("served")).to.include({ data_type: "uuid", column_default: GUID_SERVER_DEFAULT_POSTGRES })
            expect(found.get("author")).to.include({ data_type: "uuid" })
            if (isAdapted) expect(found.get("author")?.column_default).to.equal(null)
          })
        }

        if (kind === "postgres" && isAdapted) {
          it("creates no extension", async () => {
            const extensions = await dataSource.query("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'")
            expect(extensions).to.deep.equal([])
          })
        }
      })
    }
  },
)

describeOnEach(
  "setupGuidsPostgres()",
  testDatabases.filter(({ kind, isFile }) => kind !== "mysql" && isFile !== true),
  (database) => {
    let created: CreatedDatabase
    let dataSource: DataSource

    beforeEach(async () => {
      created = await database.createDatabase()
      dataSource = await new DataSource(parseDatabaseUri(created.uri)).initialize()
    })

    afterEach(async () => {
      await dataSource.destroy()
      await created.drop()
    })

    it("may be called twice and creates nothing that is not needed", async () => {
      await setupGuidsPostgres(dataSource)
      await setupGuidsPostgres(dataSource)
      if (database.kind !== "postgres") return
      expect(await dataSource.query("SELECT extname FROM pg_extension WHERE extname = 'pgcrypto'")).to.deep.equal([])
      expect(dataSource.options).to.include({ uuidExtension: "pgcrypto" })
    })

    if (database.kind === "postgres") {
      it("creates pgcrypto on a server without gen_random_uuid()", async () => {
        // What servers before version 13 look like; the catalogue of this database only.
        await dataSource.query("ALTER FUNCTION pg_catalog.gen_random_uuid() RENAME TO spec_gen_random_uuid")
        await setupGuidsPostgres(dataSource)
        await setupGuidsPostgres(dataSource)
        expect(await dataSource.query("SELECT extname FROM pg_extension WHERE extname = 'pgcrypto'")).to.have.length(1)
      })
    }
  },
)

describe("Guid() options", () => {
  it("refuse what the server cannot make, and unknown values", () => {
    expect(() => PrimaryGuid({ version: 7, generate: "server" })).to.throw(SessionOptionsError, "version 7")
    expect(() => Guid({ version: 1 as 4 })).to.throw(SessionOptionsError, "unknown version")
    expect(() => Guid({ generate: "database" as "server" })).to.throw(SessionOptionsError, 'unknown "generate"')
  })
})
