import { expect } from "chai"
import { DataSource } from "typeorm"
import { PlainReads } from "../../src/engine/plain-reads"
import { describeOnEach } from "../support/databases"
import { postgresReads, reads } from "../support/read-queries"
import { acceptedTexts, PAGE, refusedTexts } from "../support/read-texts"
import { accepted, type Kind, onServers, refused, strange, toMysql, useReads } from "../support/reads-fixture"

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
