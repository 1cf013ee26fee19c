import { expect } from "chai"
import { Column, DataSource, Entity, PrimaryColumn, ViewColumn, ViewEntity } from "typeorm"
import { DeferrableReads } from "../../src/engine/deferrable-read"

@Entity()
class Page {
  @PrimaryColumn()
  id!: number

  @Column()
  title!: string
}

@Entity()
class OldPage {
  @PrimaryColumn()
  id!: number
}

@ViewEntity({ expression: "SELECT id FROM page", synchronize: false })
class PageView {
  @ViewColumn()
  id!: number
}

const deferrable = [
  "SELECT 1",
  'SELECT "page"."id" AS "page_id" FROM "page" "page" WHERE "page"."id" = $1 LIMIT 1',
  "SELECT `page`.`id` FROM `page` `page` WHERE `page`.`id` IN (?, ?)",
  "SELECT count(*), lower(title) FROM page GROUP BY lower(title) ORDER BY 1, 2",
  "SELECT id FROM old_page",
  "SELECT a.id, b.id FROM page a JOIN page b ON a.id = b.id",
  "SELECT x.id FROM (SELECT id FROM page) x JOIN ((SELECT 1 AS id) UNION (SELECT 2)) y ON true",
  "SELECT id FROM page WHERE EXISTS (SELECT 1 FROM old_page) UNION (SELECT 2)",
  "SELECT id FROM page WHERE title = 'from page_view, now() current_timestamp'",
  'SELECT "user"."id" FROM "page" "user"',
]

const other = {
  "locking reads": [
    "SELECT * FROM page FOR UPDATE",
    "SELECT * FROM page FOR SHARE",
    "SELECT * FROM page LOCK IN SHARE MODE",
  ],
  functions: ["SELECT now()", "SELECT nextval('s')", "SELECT id FROM page WHERE touch(id)", "SELECT txid_current()"],
  "values of the transaction": [
    "SELECT CURRENT_TIMESTAMP",
    "SELECT id FROM page WHERE title < current_date",
    "SELECT localtimestamp",
    "SELECT id FROM page WHERE title = current_user",
    "SELECT session_user",
  ],
  "views, and what else is no table of an entity": [
    "SELECT * FROM page_view",
    'SELECT * FROM "page_view" "v"',
    "SELECT * FROM page JOIN page_view ON true",
    "SELECT * FROM page, page_view",
    "SELECT * FROM (page_view CROSS JOIN page)",
    "SELECT * FROM page JOIN (page_view JOIN page p ON true) ON true",
    "SELECT * FROM page STRAIGHT_JOIN page_view",
    "SELECT id FROM page UNION TABLE page_view",
    "SELECT * FROM ONLY page_view",
    "SELECT * FROM archive.page",
    "SELECT * FROM pg_locks",
    `SELECT id AS "it's" FROM page_view WHERE 'a' = 'a'`,
    "SELECT id AS `it's` FROM page_view WHERE 'a' = 'a'",
  ],
  "what is no read": [
    "INSERT INTO page VALUES (1, 'a')",
    "UPDATE page SET id = 1",
    "SET a = 1",
    "SELECT 1; SELECT 2",
    "",
  ],
}

describe("DeferrableReads", () => {
  let dataSource: DataSource
  let reads: DeferrableReads
  beforeEach(async () => {
    dataSource = new DataSource({ type: "better-sqlite3", database: ":memory:", entities: [Page, OldPage, PageView] })
    await dataSource.initialize()
    reads = new DeferrableReads(dataSource)
  })
  afterEach(() => dataSource.destroy())

  it("has plain reads of tables of entities", () => {
    expect(deferrable.filter((text) => !reads.has(text))).to.deep.equal([])
  })

  for (const [what, texts] of Object.entries(other)) {
    it(`does not have: ${what}`, () => {
      expect(texts.filter((text) => reads.has(text))).to.deep.equal([])
    })
  }

  it("answers the same when asked again, and after more texts than it remembers", () => {
    for (let id = 0; id < 2_500; id++) expect(reads.has(`SELECT * FROM page WHERE id = ${id}`)).to.equal(true)
    for (let time = 0; time < 2; time++) expect(reads.has("SELECT * FROM page FOR UPDATE")).to.equal(false)
  })
})
