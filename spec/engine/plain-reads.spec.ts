import { expect } from "chai"
import { DataSource, EntitySchema, getMetadataArgsStorage, type Logger } from "typeorm"
import { PlainReads } from "../../src/engine/plain-reads"
import { type CreatedDatabase, describeOnEach, type SecondConnection, testDatabases } from "../support/databases"
import { addReadRows, readEntities } from "../support/read-entities"
import { postgresReads, reads } from "../support/read-queries"

// Makes TypeORM's global at load time: made during a spec, it would be taken for a leak of that spec.
getMetadataArgsStorage()

type Kind = "postgres" | "mysql"
type Statement = readonly [text: string, parameters: unknown[] | undefined]

const onPostgres = testDatabases.filter(({ kind }) => kind === "postgres")
const onMysql = testDatabases.filter(({ kind }) => kind === "mysql")
const onServers = [...onPostgres, ...onMysql]

/** Entities of tables that are made by hand: what the metadata call a table may be anything. */
function strange(tableName: string, columns: Record<string, "int" | "varchar"> = { title: "varchar" }): EntitySchema {
  const others = Object.fromEntries(Object.entries(columns).map(([name, type]) => [name, { type }]))
  return new EntitySchema({
    name: `strange_${tableName}`,
    tableName,
    columns: { id: { type: "int", primary: true }, ...others },
  })
}

interface Subject {
  readonly database: CreatedDatabase
  readonly dataSource: DataSource
  readonly connection: SecondConnection
  /** Every statement that TypeORM sends. */
  readonly sent: Statement[]
  readonly plainReads: PlainReads
  /** Has the server asked again, after its schema has changed. */
  learn(): Promise<void>
}

/** One database for the `describe`, with the tables of `readEntities` and rows in them. */
function useReads(kind: Kind, entities: readonly EntitySchema[] = [], prepare: readonly string[] = []): Subject {
  const subject = { sent: [] as Statement[] } as { -readonly [Name in keyof Subject]: Subject[Name] }
  const logger: Logger = {
    logQuery: (text, parameters) => subject.sent.push([text, parameters && Object.values(parameters)]),
    logQueryError() {},
    logQuerySlow() {},
    logSchemaBuild() {},
    logMigration() {},
    log() {},
  }
  const open = (more: readonly EntitySchema[]) => {
    const options = { url: subject.database.uri, entities: [...readEntities, ...more], logger }
    return new DataSource(
      kind === "postgres" ? { type: kind, ...options } : { type: "mariadb", ...options },
    ).initialize()
  }

  before(async () => {
    const testDatabase = onServers.find((database) => database.kind === kind)
    if (testDatabase === undefined) throw new Error(`There are no specs on ${kind}`)
    subject.database = await testDatabase.createDatabase()
    subject.connection = await subject.database.open()
    const first = await open([])
    await first.synchronize()
    await addReadRows(first.manager)
    await first.destroy()
    for (const statement of prepare) await subject.connection.query(statement)
    subject.dataSource = await open(entities)
    subject.plainReads = new PlainReads(subject.dataSource)
    subject.learn = async () => {
      const { text = "", parameters = [] } = subject.plainReads.question ?? {}
      subject.plainReads.learn(await subject.dataSource.query(text, [...parameters]))
    }
    await subject.learn()
  })
  after(async () => {
    await subject.dataSource?.destroy()
    await subject.database?.drop()
  })
  return subject
}

function refused(plainReads: PlainReads, texts: readonly string[]): void {
  expect(texts.filter((text) => plainReads.has(text, undefined))).to.deep.equal([])
}

function accepted(plainReads: PlainReads, texts: readonly string[]): void {
  const reasons = texts.flatMap((text) => plainReads.refusalOf(text) ?? [])
  expect(reasons).to.deep.equal([])
}

/** In backticks, with MySQL's parameters. */
function toMysql(text: string): string {
  return text.replaceAll('"', "`").replaceAll(/\$\d/g, "?")
}

/** As TypeORM 1.1.1 sends them. */
const acceptedTexts = [
  'SELECT "Page"."id" AS "Page_id", "Page"."title" AS "Page_title" FROM "page" "Page" WHERE (("Page"."id" = $1)) LIMIT 1',
  'SELECT "Page"."id" AS "Page_id" FROM "page" "Page" WHERE ((("Page"."title" = $1 AND "Page"."id" = $2)) OR (("Page"."status" = $3)))',
  'SELECT "Page"."id" AS "Page_id" FROM "page" "Page" WHERE (("Page"."id" IN ($1, $2) AND NOT("Page"."title" BETWEEN $3 AND $4)))',
  'SELECT "Page"."id" AS "Page_id" FROM "page" "Page" WHERE (("Page"."title" LIKE $1 AND "Page"."body" != $2)) ORDER BY "Page"."title" ASC LIMIT 5 OFFSET 1',
  'SELECT "Author"."id" AS "Author_id" FROM "author" "Author" WHERE ( (("Author"."name" = $1)) ) AND ( "Author"."leftAt" IS NULL )',
  'SELECT "Shelf"."id" AS "Shelf_id", "f"."minutes" AS "f_minutes" FROM "shelf" "Shelf" LEFT JOIN "medium" "f" ON "f"."shelfId"="Shelf"."id" AND "f"."kind"=\'Film\'',
  'SELECT "page"."id" AS "page_id" FROM "page" "page" LEFT JOIN ("comment" "c" INNER JOIN "author" "a" ON "a"."id"="c"."authorId" AND ("a"."leftAt" IS NULL)) ON "c"."pageId"="page"."id"',
  'SELECT DISTINCT "distinctAlias"."Page_id" AS "ids_Page_id", "distinctAlias"."Page_title" FROM (SELECT "Page"."id" AS "Page_id", "Page"."title" AS "Page_title", "l"."name" AS "l_name" FROM "page" "Page" LEFT JOIN "page_labels_label" "pl" ON "pl"."pageId"="Page"."id" LEFT JOIN "label" "l" ON "l"."id"="pl"."labelId") "distinctAlias" ORDER BY "distinctAlias"."Page_title" DESC, "Page_id" ASC LIMIT 2',
  'SELECT "Page"."id" AS "Page_id" FROM "page" "Page" WHERE "Page"."id" IN (1, 2) ORDER BY "Page"."title" DESC',
  'SELECT COUNT(1) AS "cnt" FROM "page" "Page"',
  'SELECT COUNT(DISTINCT("Page"."id")) AS "cnt" FROM "page" "Page" INNER JOIN "author" "a" ON "a"."id"="Page"."authorId"',
  'SELECT 1 AS "row_exists" FROM (SELECT 1 AS dummy_column) "dummy_table" WHERE EXISTS (SELECT 1 FROM "page" "Page" WHERE (("Page"."title" = $1))) LIMIT 1',
  'SELECT MAX("Place"."people") AS "MAX" FROM "place" "Place"',
]

const PAGE = 'SELECT "Page"."id" AS "Page_id" FROM "page" "Page"'

/** On both, with quotes and parameters of each. */
const refusedTexts: Record<string, string[]> = {
  "views and what is no entity's table": [
    'SELECT "p"."id" FROM "page_view" "p"',
    'SELECT "p"."id" FROM"page_view" "p"',
    'SELECT "p"."id" FROM "page_view""p"',
    `${PAGE} INNER JOIN "page_view" "v" ON "v"."id"="Page"."id"`,
    `${PAGE} INNER JOIN"page_view" "v" ON "v"."id"="Page"."id"`,
    `${PAGE}, "page_view" "v"`,
    `${PAGE} INNER JOIN ("page_view" "v" INNER JOIN "author" "a" ON "a"."id"="v"."id") ON "v"."id"="Page"."id"`,
    `${PAGE} WHERE EXISTS (SELECT 1 FROM "page_view" "v")`,
    'SELECT "d"."id" FROM (SELECT "v"."id" FROM "page_view" "v") "d"',
    'SELECT "p"."id" FROM "other"."page" "p"',
    'SELECT "p"."id" FROM "pg_locks" "p"',
    'SELECT "p"."id" FROM "PAGE" "p"',
    'SELECT "p"."id" FROM page "p"',
    'SELECT "p"."id" FROM ONLY "page" "p"',
    'SELECT "p"."id" FROM "page"* "p"',
    'SELECT "p"."id" FROM TABLE "page" "p"',
  ],
  "names that are no column of what the alias stands for": [
    'SELECT "Page"."claim" AS "c" FROM "page" "Page"',
    'SELECT "Page"."name" AS "c" FROM "page" "Page"',
    'SELECT "Page"."ID" AS "c" FROM "page" "Page"',
    'SELECT "page"."id" AS "c" FROM "page" "Page"',
    'SELECT "id" AS "c" FROM "page" "Page"',
    'SELECT "Page" AS "c" FROM "page" "Page"',
    'SELECT "Page".* FROM "page" "Page"',
    'SELECT * FROM "page" "Page"',
    'SELECT ("Page")."id" FROM "page" "Page"',
    'SELECT ("Page"."id") FROM "page" "Page"',
    'SELECT "public"."Page"."id" FROM "page" "Page"',
    'SELECT COUNT("Page") FROM "page" "Page"',
    `${PAGE} WHERE "Page"."claim" = $1`,
    `${PAGE} WHERE "Page"."claim" IS NULL`,
    `${PAGE} WHERE "Page" IS NULL`,
    `${PAGE} ORDER BY "Page" ASC`,
    `${PAGE} ORDER BY "Page"."claim" ASC`,
    `${PAGE} ORDER BY "claim" ASC`,
    `${PAGE} GROUP BY "Page"."claim"`,
    `${PAGE} INNER JOIN "author" "a" ON "a"."title"="Page"."title"`,
    `${PAGE} WHERE EXISTS (SELECT 1 FROM "author" "Page" WHERE "Page"."title" = $1)`,
    'SELECT "d"."claim" FROM (SELECT "Page"."id" AS "x" FROM "page" "Page") "d"',
    'SELECT "d"."id" FROM (SELECT "Page"."id" AS "x" FROM "page" "Page") "d"',
    'SELECT "d"."x" FROM (SELECT "Page"."id" AS "x" FROM "page" "Page") "d" ORDER BY "d" ASC',
    'SELECT "Page"."id" FROM "page" "Page", (SELECT "Page"."title" AS "x" FROM "author" "a") "d"',
    'SELECT "dummy_table"."dummy_column" FROM (SELECT 1 AS dummy_column) "dummy_table"',
  ],
  "locking reads": [
    `${PAGE} FOR UPDATE`,
    `${PAGE} for update`,
    `${PAGE} FOR SHARE`,
    `${PAGE} FOR UPDATE SKIP LOCKED`,
    `${PAGE} FOR NO KEY UPDATE NOWAIT`,
    `${PAGE} FOR KEY SHARE OF "Page"`,
    `${PAGE} LOCK IN SHARE MODE`,
    `${PAGE} LIMIT 1FOR UPDATE`,
    `${PAGE} LIMIT 1 FOR UPDATE`,
    `${PAGE}FOR UPDATE`,
    'SELECT "d"."x" FROM (SELECT "Page"."id" AS "x" FROM "page" "Page" FOR UPDATE) "d"',
  ],
  functions: [
    "SELECT nextval('sprung')",
    "SELECT NOW()",
    'SELECT claim("Page") FROM "page" "Page"',
    'SELECT "claim"("Page"."id") FROM "page" "Page"',
    'SELECT "public"."count"("Page"."id") FROM "page" "Page"',
    'SELECT "count"("Page"."id") FROM "page" "Page"',
    'SELECT COUNT ("Page"."id") FROM "page" "Page"',
    'SELECT COUNT(claim("Page")) FROM "page" "Page"',
    'SELECT COUNT(DISTINCT(claim("Page"))) FROM "page" "Page"',
    'SELECT COUNT(1) FILTER (WHERE spring() > 0) FROM "page" "Page"',
    'SELECT COUNT(1) OVER (ORDER BY spring()) FROM "page" "Page"',
    'SELECT GROUP_CONCAT("Page"."id") FROM "page" "Page"',
    'SELECT UPPER(spring()) FROM "page" "Page"',
    'SELECT "x"."id" FROM spring() "x"',
    'SELECT "x"."id" FROM "spring"() "x"',
    'SELECT "x"."id" FROM LATERAL (SELECT spring()) "x"',
    `${PAGE} INNER JOIN LATERAL (SELECT spring() AS "id") "x" ON 1=1`,
    `${PAGE}, generate_series(1, 2) "x"`,
    `${PAGE} WHERE "Page"."id" = spring()`,
    `${PAGE} WHERE spring() = "Page"."id"`,
    `${PAGE} WHERE "Page"."id" IN (spring())`,
    `${PAGE} WHERE "Page"."id" IN (SELECT spring())`,
    `${PAGE} WHERE "Page"."id" BETWEEN $1 AND spring()`,
    `${PAGE} WHERE NOT spring()`,
    `${PAGE} ORDER BY spring() ASC`,
    `${PAGE} ORDER BY COUNT(1) ASC`,
    `${PAGE} GROUP BY spring()`,
    `${PAGE} GROUP BY "Page"."id" HAVING spring() > 0`,
    `${PAGE} LIMIT (SELECT spring())`,
    `${PAGE} LIMIT $1`,
    `${PAGE} LIMIT 1 OFFSET (SELECT spring())`,
    `${PAGE} WHERE "Page"."id" = (SELECT spring())`,
    `${PAGE} WHERE GET_LOCK('a', 1) = 1`,
    `${PAGE} WHERE "Page"."joinedAt" < CURRENT_TIMESTAMP`,
    `${PAGE} WHERE "Page"."title" = CURRENT_USER`,
    `${PAGE} TABLESAMPLE SYSTEM (1)`,
  ],
  "operators and casts": [
    `${PAGE} WHERE "Page"."id" = -$1`,
    `${PAGE} WHERE "Page"."id" + $1 = $2`,
    `${PAGE} WHERE "Page"."id" || $1 = $2`,
    `${PAGE} WHERE "Page"."id" @> $1`,
    `${PAGE} WHERE "Page"."id" && $1`,
    `${PAGE} WHERE "Page"."id" === $1`,
    `${PAGE} WHERE "Page"."id" =< $1`,
    `${PAGE} WHERE "Page"."id" = = $1`,
    `${PAGE} WHERE "Page"."id" <=> $1`,
    `${PAGE} WHERE "Page"."id" ~ $1`,
    `${PAGE} WHERE "Page"."id" -> $1 = $2`,
    `${PAGE} WHERE "Page"."id" OPERATOR(public.=) $1`,
    `${PAGE} WHERE "Page"."id"::evil = $1`,
    `${PAGE} WHERE "Page"."id" = $1::evil`,
    `${PAGE} WHERE "Page"."id" = CAST($1 AS evil)`,
    `${PAGE} WHERE "Page"."title" COLLATE "C" = $1`,
    `${PAGE} WHERE "Page"."title" SIMILAR TO $1`,
    `${PAGE} WHERE "Page"."title" REGEXP $1`,
    `${PAGE} WHERE "Page"."id" = $1 IS DISTINCT FROM $2`,
    `${PAGE} WHERE ("Page"."id", "Page"."title") = ($1, $2)`,
    `${PAGE} WHERE "Page"."id" = ROW($1)`,
    `${PAGE} WHERE "Page"."id" = ALL($1)`,
    `${PAGE} WHERE $1 = $2`,
    `${PAGE} WHERE $1 = "Page"."id"`,
    `${PAGE} WHERE $1`,
    `${PAGE} ORDER BY "Page"."id" USING >`,
    `${PAGE} WHERE CASE WHEN "Page"."id" = $1 THEN 1 ELSE 2 END = 1`,
  ],
  "joins that name no columns of their own": [
    `${PAGE} INNER JOIN "author" "a" USING ("id")`,
    `${PAGE} NATURAL JOIN "author" "a"`,
    `${PAGE} CROSS JOIN "author" "a"`,
    `${PAGE} FULL JOIN "author" "a" ON "a"."id"="Page"."authorId"`,
    `${PAGE} STRAIGHT_JOIN "author" "a"`,
    `${PAGE} JOIN "author" "a" ON "a"."id"="Page"."authorId"`,
    `${PAGE} INNER JOIN "author" ON "author"."id"="Page"."authorId"`,
    `${PAGE} INNER JOIN "author" "Page" ON "Page"."id" = $1`,
    `${PAGE} INNER JOIN "author" "a" ("b", "c") ON "a"."b"="Page"."id"`,
    `${PAGE} INNER JOIN "author" AS "a" ON "a"."id"="Page"."authorId"`,
  ],
  "other statements, or more than one": [
    "",
    " ",
    "SELECT",
    "SELECT 1",
    `(${PAGE})`,
    `${PAGE};`,
    `${PAGE}; SELECT spring()`,
    `${PAGE} UNION ${PAGE}`,
    `${PAGE} UNION ALL SELECT spring()`,
    `WITH "x" AS (${PAGE}) SELECT "x"."Page_id" FROM "x" "x"`,
    `EXPLAIN ANALYZE ${PAGE}`,
    `PREPARE p AS ${PAGE}`,
    `DECLARE c CURSOR FOR ${PAGE}`,
    `COPY (${PAGE}) TO STDOUT`,
    'TABLE "page"',
    "VALUES (1)",
    'INSERT INTO "page" ("id") VALUES (1)',
    'UPDATE "page" SET "id" = 1',
    'DELETE FROM "page"',
    "COMMIT",
    'SELECT "Page"."id" AS "x" INTO "copy" FROM "page" "Page"',
    `${PAGE} INTO OUTFILE '/tmp/x'`,
    `${PAGE} INTO DUMPFILE '/tmp/x'`,
    `${PAGE} INTO @x`,
    `${PAGE} PROCEDURE ANALYSE()`,
    'SELECT @x := "Page"."id" FROM "page" "Page"',
    'SELECT @x FROM "page" "Page"',
    'SELECT SQL_CALC_FOUND_ROWS "Page"."id" FROM "page" "Page"',
    'SELECT ALL "Page"."id" FROM "page" "Page"',
  ],
  comments: [
    `${PAGE} -- all`,
    `${PAGE} --`,
    `${PAGE} # all`,
    `${PAGE} /* all */`,
    `${PAGE} /* a /* b */ c */`,
    `${PAGE} /*! FOR UPDATE */`,
    `${PAGE} /*!50000 FOR UPDATE */`,
    `${PAGE} /*M! FOR UPDATE */`,
    `/* all */ ${PAGE}`,
    'SELECT /*+ MAX_EXECUTION_TIME(1) */ "Page"."id" FROM "page" "Page"',
    'SELECT/**/"Page"."id" FROM "page" "Page"',
  ],
  "literals and names that may end elsewhere than they seem to": [
    `${PAGE} WHERE "Page"."title" = 'x'`,
    `${PAGE} WHERE "Page"."title" = ''`,
    `${PAGE} WHERE "Page"."title" = 'Film''Film'`,
    `${PAGE} WHERE "Page"."title" = 'Film' 'Film'`,
    `${PAGE} WHERE "Page"."title" = '\\' OR spring() = '1'`,
    `${PAGE} WHERE "Page"."title" = 'Film\\'`,
    `${PAGE} WHERE "Page"."title" = E'Film'`,
    `${PAGE} WHERE "Page"."title" = N'Film'`,
    `${PAGE} WHERE "Page"."title" = B'1'`,
    `${PAGE} WHERE "Page"."title" = X'1F'`,
    `${PAGE} WHERE "Page"."title" = U&'\\0061'`,
    `${PAGE} WHERE "Page"."title" = _utf8'Film'`,
    `${PAGE} WHERE "Page"."title" = $$Film$$`,
    `${PAGE} WHERE "Page"."title" = $a$Film$a$`,
    `${PAGE} WHERE "Page"."id" = 0x1F`,
    `${PAGE} WHERE "Page"."id" = 1e3`,
    `${PAGE} WHERE "Page"."id" = 1_000`,
    `${PAGE} WHERE "Page"."id" = 1.5`,
    `${PAGE} WHERE "Page"."id" = $1OR 1=1`,
    'SELECT U&"Page"."id" FROM "page" "Page"',
    'SELECT U&"P\\0061ge"."id" FROM "page" "Page"',
    'SELECT "Page"."id" AS "a""b" FROM "page" "Page"',
    'SELECT "Page"."id" AS "a\\" FROM "page" "Page"',
    'SELECT "Page"."id" AS "a\nb" FROM "page" "Page"',
    'SELECT "Page"."id" AS "a\0b" FROM "page" "Page"',
    'SELECT "Page"."id" AS "" FROM "page" "Page"',
    'SELECT "Page"."id" AS "unfinished FROM "page" "Page"',
    `SELECT "Page"."id" AS "${"x".repeat(64)}" FROM "page" "Page"`,
    `SELECT "Page"."id" AS "${"é".repeat(32)}" FROM "page" "Page"`,
    'SELECT "Page" . "id" FROM "page" "Page"',
    'SELECT "Page"."id"\nFROM "page" "Page"',
    'SELECT\t"Page"."id" FROM "page" "Page"',
    'SELECT\u00a0"Page"."id" FROM "page" "Page"',
    `${PAGE}\u00a0`,
    `${PAGE}\0`,
    'SELECT"Page"."id" FROM "page" "Page"',
    `${PAGE} WHERE${"(".repeat(60)}"Page"."id" = $1${")".repeat(60)}`,
  ],
}

describe("PlainReads", () => {
  for (const database of onServers) {
    const kind = database.kind as Kind
    const own = kind === "postgres" ? postgresReads : {}
    const toOwn = kind === "postgres" ? (text: string) => text : toMysql

    describeOnEach("has()", [database], () => {
      const subject = useReads(kind)

      for (const [name, read] of Object.entries({ ...reads, ...own })) {
        it(`knows what TypeORM sends for ${name}`, async () => {
          subject.sent.length = 0
          await read(subject.dataSource.manager)
          expect(subject.sent).not.to.deep.equal([])
          for (const [text, parameters] of subject.sent) {
            expect(subject.plainReads.refusalOf(text), text).to.equal(undefined)
            expect(subject.plainReads.has(text, parameters), text).to.equal(true)
          }
        })
      }

      it("knows these texts", () => accepted(subject.plainReads, acceptedTexts.map(toOwn)))

      for (const [what, texts] of Object.entries(refusedTexts)) {
        it(`refuses ${what}`, () => {
          refused(subject.plainReads, texts)
          refused(subject.plainReads, texts.map(toMysql))
        })
      }

      it("refuses the other database's quotes", () => {
        const others = kind === "postgres" ? acceptedTexts.map(toMysql) : acceptedTexts
        refused(subject.plainReads, others)
      })

      it("refuses every text before it has learnt, and after rows that say nothing", async () => {
        const plainReads = new PlainReads(subject.dataSource)
        refused(plainReads, acceptedTexts.map(toOwn))
        plainReads.learn([null, 1, {}, { path: toOwn('"page"') }, { path: 1, name: 2 }])
        refused(plainReads, acceptedTexts.map(toOwn))
      })

      it("answers the same when asked again, and after more texts than it remembers", () => {
        const page = toOwn(PAGE)
        for (let limit = 0; limit < 2_500; limit++) accepted(subject.plainReads, [`${page} LIMIT ${limit}`])
        for (let time = 0; time < 2; time++) refused(subject.plainReads, [`${page} FOR UPDATE`])
        for (let time = 0; time < 2; time++) expect(subject.plainReads.has(page, [])).to.equal(true)
      })

      it("refuses a text that is too long to be kept", () => {
        const ids = Array.from({ length: 5_000 }, (_, id) => id).join(", ")
        refused(subject.plainReads, [`${toOwn(PAGE)} WHERE ${toOwn('"Page"."id"')} IN (${ids})`])
      })
    })
  }

  describeOnEach("the server's catalog", onPostgres, () => {
    const entities = [
      strange("page_view"),
      strange("page_copy"),
      strange("measured"),
      strange("measured_one"),
      strange("parent"),
      strange("child"),
      strange("secret"),
      strange("fast"),
      strange("computed", { title: "varchar", stored: "int" }),
      strange("computed_late", { twice: "int" }),
      strange("indexed"),
      strange("checked"),
      strange("drifted", { title: "varchar", claim: "int" }),
      strange("typed", { domain: "varchar", composite: "varchar", list: "varchar", mood: "varchar", price: "int" }),
      strange("hidden.page"),
      strange("nowhere"),
    ]
    const subject = useReads("postgres", entities, [
      "CREATE SEQUENCE sprung",
      "CREATE FUNCTION spring() RETURNS int LANGUAGE sql AS $$ SELECT nextval('sprung')::int $$",
      "CREATE FUNCTION constant(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
      "CREATE VIEW page_view AS SELECT id, title, spring() FROM page",
      "CREATE MATERIALIZED VIEW page_copy AS SELECT id, title FROM page",
      "CREATE TABLE measured (id int, title varchar) PARTITION BY RANGE (id)",
      "CREATE TABLE measured_one PARTITION OF measured FOR VALUES FROM (1) TO (9)",
      "CREATE TABLE parent (id int, title varchar)",
      "CREATE TABLE child () INHERITS (parent)",
      "CREATE TABLE secret (id int, title varchar)",
      "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
      "CREATE UNLOGGED TABLE fast (id int, title varchar)",
      "CREATE TABLE computed (id int, title varchar, stored int GENERATED ALWAYS AS (id * 3) STORED)",
      "CREATE TABLE indexed (id int, title varchar)",
      "CREATE INDEX ON indexed (constant(id))",
      "CREATE TABLE checked (id int, title varchar, CHECK (constant(id) > 0))",
      "CREATE TABLE drifted (id int, title varchar)",
      "CREATE FUNCTION claim(drifted) RETURNS int LANGUAGE sql AS 'SELECT spring()'",
      "CREATE DOMAIN short AS varchar CHECK (length(VALUE) < 9)",
      "CREATE TYPE pair AS (a int, b int)",
      "CREATE TYPE mood AS ENUM ('good', 'bad')",
      "CREATE TABLE typed (id int, domain short, composite pair, list int[], mood mood, price numeric)",
      "CREATE SCHEMA hidden",
      "CREATE VIEW hidden.page AS SELECT id, title FROM page",
    ])

    const titles = (table: string) => `SELECT "x"."id" AS "x_id", "x"."title" AS "x_title" FROM "${table}" "x"`

    for (const table of ["measured_one", "child", "fast", "computed", "drifted"]) {
      it(`knows a table that is ordinary: ${table}`, () => accepted(subject.plainReads, [titles(table)]))
    }

    for (const table of ["page_view", "page_copy", "measured", "parent", "secret", "indexed", "checked", "nowhere"]) {
      it(`refuses what is no ordinary table: ${table}`, () => refused(subject.plainReads, [titles(table)]))
    }

    it("refuses another schema's view that has a table's name", () => {
      refused(subject.plainReads, ['SELECT "x"."id" FROM "hidden"."page" "x"'])
    })

    it("knows a column that was computed when it was written", () => {
      accepted(subject.plainReads, ['SELECT "x"."stored" FROM "computed" "x"'])
    })

    it("refuses a column that is computed when it is read, as PostgreSQL 18 has them", async function () {
      const [row] = await subject.connection.query("SHOW server_version_num")
      if (Number(row?.server_version_num) < 180_000) this.skip()
      const twice = "GENERATED ALWAYS AS (id * 2) VIRTUAL"
      await subject.connection.query(`CREATE TABLE computed_late (id int, twice int ${twice})`)
      await subject.learn()
      accepted(subject.plainReads, ['SELECT "x"."id" FROM "computed_late" "x"'])
      refused(subject.plainReads, ['SELECT "x"."twice" FROM "computed_late" "x"'])
    })

    it("refuses a column that only the metadata have, and so may be a function", async () => {
      const text = 'SELECT "x"."claim" FROM "drifted" "x"'
      refused(subject.plainReads, [text])
      await subject.connection.query("INSERT INTO drifted VALUES (1, 'a')")
      expect(await subject.connection.query(text)).to.deep.equal([{ claim: 1 }])
    })

    it("shows columns of any type, and compares those of the server's own types and of enums", () => {
      const typed = (rest: string) => `SELECT "x"."id" FROM "typed" "x" ${rest}`
      accepted(subject.plainReads, [
        'SELECT "x"."domain", "x"."composite", "x"."list", "x"."mood" FROM "typed" "x"',
        typed('WHERE "x"."mood" = $1 AND "x"."price" = $2 AND "x"."domain" IS NULL'),
      ])
      for (const column of ["domain", "composite", "list"]) {
        refused(subject.plainReads, [
          typed(`WHERE "x"."${column}" = $1`),
          typed(`ORDER BY "x"."${column}" ASC`),
          typed(`GROUP BY "x"."${column}"`),
          `SELECT DISTINCT "x"."${column}" FROM "typed" "x"`,
          `SELECT COUNT(DISTINCT("x"."${column}")) FROM "typed" "x"`,
          `SELECT MAX("x"."${column}") FROM "typed" "x"`,
        ])
      }
      refused(subject.plainReads, [typed('WHERE "x"."price" = 1'), typed('WHERE "x"."price" = "x"."id"')])
    })

    /** What somebody defines, and what it makes unknown: where the server would take it for its own. */
    const definitions: { defines: string[]; refuses: string[]; keeps: string[] }[] = [
      {
        defines: ["CREATE FUNCTION count(page) RETURNS int LANGUAGE sql AS 'SELECT 1'"],
        refuses: ['SELECT COUNT(1) FROM "page" "Page"'],
        keeps: ['SELECT MAX("Page"."id") FROM "page" "Page"'],
      },
      {
        defines: [
          "CREATE FUNCTION equal(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true'",
          "CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = equal)",
        ],
        refuses: [`${PAGE} WHERE "Page"."title" = $1`, `${PAGE} WHERE "Page"."title" IN ($1)`],
        keeps: [
          `${PAGE} WHERE "Page"."body" = $1`,
          `${PAGE} WHERE "Page"."title" != $1`,
          `${PAGE} WHERE "Page"."id" = 1`,
        ],
      },
      {
        defines: [
          "CREATE FUNCTION more(int, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
          "CREATE OPERATOR > (LEFTARG = int, RIGHTARG = text, FUNCTION = more)",
        ],
        refuses: [`${PAGE} WHERE "Page"."title" > $1`, `${PAGE} WHERE "Page"."id" > 1`],
        keeps: [
          `${PAGE} WHERE "Page"."id" > $1`,
          `${PAGE} WHERE "Page"."body" > $1`,
          `${PAGE} WHERE "Page"."title" < $1`,
        ],
      },
      {
        defines: [
          "CREATE FUNCTION like_anything(anyelement, anyelement) RETURNS bool LANGUAGE sql AS 'SELECT true'",
          "CREATE OPERATOR <> (LEFTARG = anyelement, RIGHTARG = anyelement, FUNCTION = like_anything)",
        ],
        refuses: [`${PAGE} WHERE "Page"."status" != $1`, `${PAGE} WHERE "Page"."title" NOT IN ($1)`],
        keeps: [`${PAGE} WHERE "Page"."id" != $1`, `${PAGE} WHERE "Page"."status" = $1`],
      },
      {
        defines: [
          "CREATE FUNCTION mood_less(mood, mood) RETURNS bool LANGUAGE sql AS 'SELECT true'",
          "CREATE OPERATOR < (LEFTARG = mood, RIGHTARG = mood, FUNCTION = mood_less)",
        ],
        refuses: ['SELECT "x"."id" FROM "typed" "x" WHERE "x"."mood" < $1'],
        keeps: ['SELECT "x"."id" FROM "typed" "x" WHERE "x"."mood" > $1', `${PAGE} WHERE "Page"."status" < $1`],
      },
      {
        defines: [
          "CREATE FUNCTION mood_of(varchar) RETURNS mood LANGUAGE sql AS $$ SELECT 'good'::mood $$",
          "CREATE FUNCTION mood_like(mood, mood) RETURNS bool LANGUAGE sql AS 'SELECT true'",
          "CREATE OPERATOR ~~ (LEFTARG = mood, RIGHTARG = mood, FUNCTION = mood_like)",
          "CREATE CAST (varchar AS mood) WITH FUNCTION mood_of(varchar) AS IMPLICIT",
        ],
        refuses: [`${PAGE} WHERE "Page"."title" LIKE $1`],
        keeps: [`${PAGE} WHERE "Page"."body" LIKE $1`, `${PAGE} WHERE "Page"."title" NOT LIKE $1`],
      },
    ]

    for (const { defines, refuses, keeps } of definitions) {
      it(`refuses what may mean somebody's own: ${defines.at(-1)}`, async () => {
        accepted(subject.plainReads, [...refuses, ...keeps])
        try {
          for (const statement of defines) await subject.connection.query(statement)
          await subject.learn()
          refused(subject.plainReads, refuses)
          accepted(subject.plainReads, keeps)
        } finally {
          for (const statement of defines.toReversed()) await subject.connection.query(undone(statement))
          await subject.learn()
        }
      })
    }

    it("refuses values that mean the time of the transaction", () => {
      const text = 'SELECT "a"."id" FROM "author" "a" WHERE "a"."joinedAt" < $1'
      for (const value of ["2020-01-01", "known", new Date(), 1, null]) {
        expect(subject.plainReads.has(text, [value]), String(value)).to.equal(true)
      }
      for (const value of ["now", " NOW ", "today 10:00", ["2020-01-01", "yesterday"], { toPostgres: () => "now" }]) {
        expect(subject.plainReads.has(text, [value]), String(value)).to.equal(false)
      }
    })
  })

  describeOnEach("the server's catalog", onMysql, () => {
    const tables = ["page_view", "old_engine", "computed", "counter", "history"]
    const subject = useReads(
      "mysql",
      [...tables.map((table) => strange(table)), strange("other.page")],
      [
        "CREATE VIEW page_view AS SELECT id, title FROM page",
        "CREATE TABLE old_engine (id int, title varchar(9)) ENGINE = MyISAM",
        "CREATE TABLE computed (id int, title varchar(9) AS (CONCAT(id, 'x')) VIRTUAL)",
        "CREATE TABLE history (id int, title varchar(9))",
      ],
    )
    const titles = (table: string) => `SELECT \`x\`.\`id\`, \`x\`.\`title\` FROM \`${table}\` \`x\``

    it("knows an ordinary table", () => accepted(subject.plainReads, [titles("history")]))

    for (const table of ["page_view", "old_engine", "computed", "counter"]) {
      it(`refuses what is no ordinary table: ${table}`, () => refused(subject.plainReads, [titles(table)]))
    }

    it("refuses a table of a database that is not there", () => {
      refused(subject.plainReads, ["SELECT `x`.`id` FROM `other`.`page` `x`"])
    })

    it("refuses values that mysql2 does not write as values", () => {
      const text = "SELECT `Page`.`id` FROM `page` `Page` WHERE `Page`.`title` = ?"
      for (const value of ["now", 1, 1n, null, undefined, true, new Date(), Buffer.from("a")]) {
        expect(subject.plainReads.has(text, [value]), String(value)).to.equal(true)
      }
      const lock = { toSqlString: () => "GET_LOCK('a', 1)" }
      for (const value of [lock, [lock], [[lock]], ["a"], { id: 1 }]) {
        expect(subject.plainReads.has(text, [value])).to.equal(false)
      }
    })
  })

  it("asks nothing, and knows nothing, where the database is neither PostgreSQL nor MySQL", async () => {
    const dataSource = new DataSource({ type: "better-sqlite3", database: ":memory:", entities: [strange("page")] })
    await dataSource.initialize()
    const plainReads = new PlainReads(dataSource)
    expect(plainReads.question).to.equal(undefined)
    plainReads.learn([{ path: "page", name: "id" }])
    refused(plainReads, ['SELECT "x"."id" FROM "page" "x"'])
    await dataSource.destroy()
  })
})

/** What `DROP` needs is what `CREATE` said, up to how it does its work. */
function undone(statement: string): string {
  const types = (list: string) => list.replaceAll(/(LEFT|RIGHT)ARG = /g, "").replace(/, FUNCTION = \w+/, "")
  const [, head = ""] = /^CREATE ((?:FUNCTION|OPERATOR|CAST) .*?\))/.exec(statement) ?? []
  return `DROP ${types(head)}`
}
