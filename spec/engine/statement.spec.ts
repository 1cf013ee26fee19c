import { expect } from "chai"
import { isPlainSelect } from "../../src/engine/statement"

const plain = [
  "SELECT 1",
  "  \n select * from note",
  "(SELECT 1) UNION (SELECT 2)",
  "SELECT 1;",
  "SELECT count(*), max (id), coalesce(text, '') FROM note WHERE id IN (1, 2) AND lower(text) LIKE 'for update%'",
  "SELECT 'it''s; -- no comment /* at all */ for update into nextval(1)' AS text",
  'SELECT "note"."id" AS "for update" FROM "note" "note" WHERE ("note"."id" = $1) LIMIT 1',
  "SELECT `note`.`id` AS `into` FROM `note` WHERE `note`.`id` = ?",
  "SELECT * FROM (SELECT id FROM note WHERE EXISTS (SELECT 1)) AS inner_note JOIN note USING (id)",
  "SELECT CASE WHEN (id > 1) THEN (2) ELSE (3) END FROM note",
]

const other = {
  writes: ["INSERT INTO note VALUES (1)", "UPDATE note SET id = 1", "DELETE FROM note", "TRUNCATE note", "CALL p()"],
  "locking reads": [
    "SELECT * FROM note FOR UPDATE",
    "SELECT * FROM note for\nshare",
    "SELECT * FROM note LOCK IN SHARE MODE",
    "SELECT * FROM note WHERE text = 'x' FOR NO KEY UPDATE SKIP LOCKED",
  ],
  "SELECT INTO": ["SELECT * INTO copy FROM note", "SELECT 1 INTO @x", "SELECT * FROM note INTO OUTFILE '/tmp/x'"],
  "functions that may do anything": [
    "SELECT nextval('seq')",
    "SELECT nextval ('seq')",
    "SELECT nextval\n('seq')",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT set_config('a', 'b', true)",
    `SELECT "nextval"('seq')`,
    "SELECT `sleep`(1)",
    "SELECT audit.count('x')",
    `SELECT "audit".count('x')`,
    "SELECT audit . count('x')",
    "SELECT audit.\ncount('x')",
    "SELECT id FROM note WHERE touch(id)",
    "SELECT U&\"nextval\"('seq')",
    "SELECT 1 OPERATOR(audit.+) 2",
    "SELECT ünlog('x')",
  ],
  "more than one statement": ["SELECT 1; DELETE FROM note", "SELECT 1;; SELECT 2", "SELECT 1; SELECT 2;"],
  "common table expressions": [
    "WITH gone AS (DELETE FROM note RETURNING id) SELECT * FROM gone",
    "WITH one AS (SELECT 1) SELECT * FROM one",
  ],
  comments: [
    "SELECT 1 -- plain",
    "SELECT /* plain */ 1",
    "SELECT 1 /*! INTO @x */",
    "SELECT 1 # plain",
    "/* hint */ SELECT 1",
    "-- x\nSELECT 1",
  ],
  "quotes that end elsewhere than they seem to": [
    "SELECT 'a\\' , nextval('seq'), ' b'",
    `SELECT "a\\"b" , sleep(1), "c"`,
    "SELECT $a$ ' $a$, nextval('seq'), $a$ ' $a$",
    "SELECT $$ ' $$, nextval('seq'), $$ ' $$",
    "SELECT E'\\'', nextval('seq')",
  ],
  assignments: ["SELECT @a := 1"],
  "other statements": [
    "EXPLAIN ANALYZE DELETE FROM note",
    "VALUES (1)",
    "TABLE note",
    "SHOW search_path",
    "",
    "selection",
  ],
}

describe("isPlainSelect()", () => {
  it("knows a plain read", () => {
    expect(plain.filter((text) => !isPlainSelect(text))).to.deep.equal([])
  })

  for (const [what, texts] of Object.entries(other)) {
    it(`takes for no plain read: ${what}`, () => {
      expect(texts.filter(isPlainSelect)).to.deep.equal([])
    })
  }

  it("answers the same when asked again, and after more texts than it remembers", () => {
    for (let index = 0; index < 2_500; index++) expect(isPlainSelect(`SELECT ${index}`)).to.equal(true)
    expect(isPlainSelect("SELECT 1 FOR UPDATE")).to.equal(false)
    expect(isPlainSelect("SELECT 1 FOR UPDATE")).to.equal(false)
  })
})
