import { expect } from "chai"
import { DataSource } from "typeorm"
import { PlainReads } from "../../src/engine/plain-reads"
import { describeOnEach } from "../support/databases"
import { PAGE } from "../support/read-texts"
import { accepted, onMysql, onPostgres, refused, strange, useReads } from "../support/reads-fixture"

describe("PlainReads", () => {
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
      strange("measured_by"),
      strange("filtered"),
      strange("drifted", { title: "varchar", claim: "int" }),
      strange("typed", { domain: "varchar", composite: "varchar", list: "varchar", mood: "varchar", price: "int" }),
      strange("hidden.page"),
      strange("hidden.table"),
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
      "CREATE OPERATOR <-> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4mi)",
      "CREATE TABLE measured_by (id int, title varchar)",
      "CREATE INDEX ON measured_by (id) WHERE id <-> 1 > 0",
      "CREATE TABLE filtered (id int, title varchar, UNIQUE (id), CHECK (id > 0))",
      "CREATE INDEX ON filtered (lower(title)) WHERE id > 9",
      "CREATE TABLE checked (id int, title varchar, CHECK (constant(id) > 0))",
      "CREATE TABLE drifted (id int, title varchar)",
      "CREATE FUNCTION claim(drifted) RETURNS int LANGUAGE sql AS 'SELECT spring()'",
      "CREATE DOMAIN short AS varchar CHECK (length(VALUE) < 9)",
      "CREATE TYPE pair AS (a int, b int)",
      "CREATE TYPE mood AS ENUM ('good', 'bad')",
      "CREATE TABLE typed (id int, domain short, composite pair, list int[], mood mood, price numeric)",
      "CREATE SCHEMA hidden",
      "CREATE TABLE hidden.table (id int, title varchar)",
      "CREATE VIEW hidden.page AS SELECT id, title FROM page",
    ])

    const titles = (table: string) => `SELECT "x"."id" AS "x_id", "x"."title" AS "x_title" FROM "${table}" "x"`

    for (const table of ["measured_one", "child", "fast", "computed", "drifted", "filtered"]) {
      it(`knows a table that is ordinary: ${table}`, () => accepted(subject.plainReads, [titles(table)]))
    }

    for (const table of [
      "page_view",
      "page_copy",
      "measured",
      "parent",
      "secret",
      "indexed",
      "checked",
      "measured_by",
      "nowhere",
    ]) {
      it(`refuses what is no ordinary table: ${table}`, () => refused(subject.plainReads, [titles(table)]))
    }

    it("tells another schema's tables from its views, whatever they are called", () => {
      accepted(subject.plainReads, ['SELECT "x"."id" FROM "hidden"."table" "x"'])
      refused(subject.plainReads, ['SELECT "x"."id" FROM "table" "x"'])
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
      {
        defines: [
          "CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE sql AS $$ SELECT 'a' $$",
          "CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood) AS IMPLICIT",
        ],
        refuses: [
          'SELECT "x"."id" FROM "typed" "x" WHERE "x"."mood" = $1',
          'SELECT "x"."id" FROM "typed" "x" ORDER BY "x"."mood" ASC',
        ],
        keeps: ['SELECT "x"."mood" FROM "typed" "x"', `${PAGE} WHERE "Page"."status" = $1`],
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

    it("knows a table that is written with its database's name", async () => {
      const name = new URL(subject.database.uri).pathname.slice(1)
      const dataSource = new DataSource({
        type: "mariadb",
        url: subject.database.uri,
        entities: [strange(`${name}.history`), strange(`${name}.page_view`)],
      })
      await dataSource.initialize()
      try {
        const plainReads = new PlainReads(dataSource)
        const { text = "", parameters = [] } = plainReads.question ?? {}
        plainReads.learn(await dataSource.query(text, [...parameters]))
        accepted(plainReads, [`SELECT \`x\`.\`id\` FROM \`${name}\`.\`history\` \`x\``])
        refused(plainReads, [titles("history"), `SELECT \`x\`.\`id\` FROM \`${name}\`.\`page_view\` \`x\``])
      } finally {
        await dataSource.destroy()
      }
    })

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
      expect(subject.plainReads.has(text, { title: "a" })).to.equal(false)
    })
  })
})

/** What `DROP` needs is what `CREATE` said, up to how it does its work. */
function undone(statement: string): string {
  const types = (list: string) => list.replaceAll(/(LEFT|RIGHT)ARG = /g, "").replace(/, FUNCTION = \w+/, "")
  const [, head = ""] = /^CREATE ((?:FUNCTION|OPERATOR|CAST) .*?\))/.exec(statement) ?? []
  return `DROP ${types(head)}`
}
