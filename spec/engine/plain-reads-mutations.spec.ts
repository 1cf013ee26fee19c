import { expect } from "chai"
import { describeOnEach, type Row } from "../support/databases"
import { postgresReads, reads } from "../support/read-queries"
import { acceptedTexts } from "../support/read-texts"
import { accepted, onPostgres, refused, strange, useReads } from "../support/reads-fixture"

const MUTATIONS = 20_000
const SEED = 20_261_124

/** Every name that any table has for a column is a function of the rows of those that have none of that name. */
const attributeTraps = `
DO $do$
DECLARE trap record;
BEGIN
  FOR trap IN
    WITH tables AS (SELECT oid, relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace),
      columns AS (SELECT attrelid, attname FROM pg_attribute WHERE attrelid IN (SELECT oid FROM tables) AND attnum > 0)
    SELECT relname, name FROM tables CROSS JOIN (
      SELECT attname AS name FROM columns UNION SELECT unnest(ARRAY['claim', 'spring', 'Page_id', 'avg'])) names
    WHERE NOT EXISTS (SELECT FROM columns WHERE attrelid = oid AND attname = name)
  LOOP
    EXECUTE format('CREATE FUNCTION %I(%I) RETURNS int LANGUAGE sql AS ''SELECT spring()''', trap.name, trap.relname);
  END LOOP;
END $do$`

const traps = [
  "CREATE SEQUENCE sprung",
  "CREATE FUNCTION spring() RETURNS int LANGUAGE sql AS $$ SELECT nextval('sprung')::int $$",
  attributeTraps,
  "CREATE FUNCTION spring_bool(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT spring() > 0'",
  "CREATE OPERATOR < (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = spring_bool)",
  "CREATE OPERATOR !~~ (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = spring_bool)",
  "CREATE FUNCTION spring_bool(int, anyelement) RETURNS bool LANGUAGE sql AS 'SELECT spring() > 0'",
  "CREATE OPERATOR @@ (LEFTARG = int, RIGHTARG = anyelement, FUNCTION = spring_bool)",
  "CREATE VIEW page_view AS SELECT id, title, spring() AS sprung FROM page",
  "CREATE VIEW locking_view AS SELECT id, title FROM page FOR UPDATE",
  "CREATE TABLE secret (id int, title varchar)",
  "INSERT INTO secret VALUES (1, 'a')",
  "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
  "ALTER TABLE secret FORCE ROW LEVEL SECURITY",
  "CREATE TABLE drifted (id int, title varchar)",
  "INSERT INTO drifted VALUES (1, 'a')",
  "CREATE FUNCTION claim(drifted) RETURNS int LANGUAGE sql AS 'SELECT spring()'",
]

/** Each of these does something where it is let through: the traps are armed. */
const springing = [
  'SELECT "Page"."claim" AS "c" FROM "page" "Page"',
  'SELECT "Page"."name" AS "c" FROM "page" "Page"',
  'SELECT "x"."claim" AS "c" FROM "drifted" "x"',
  'SELECT AVG("Page") AS "c" FROM "page" "Page"',
  'SELECT "v"."id" FROM"page_view" "v" WHERE "v"."sprung" > 0',
  'SELECT "v"."id" FROM "locking_view" "v"',
  'SELECT "Page"."id" FROM "page" "Page" FOR UPDATE',
  'SELECT "Page"."id" FROM "page" "Page" LIMIT (SELECT spring())',
  'SELECT "Page"."id" FROM "page" "Page" WHERE "Page"."title" < $1',
  'SELECT "Page"."id" FROM "page" "Page" WHERE NOT("Page"."title" NOT LIKE $1)',
  'SELECT "Page"."id" FROM "page" "Page" WHERE "Page"."id" @@ 1',
  'SELECT "Page"."id" FROM "page" "Page" WHERE "Page"."claim" IS NULL',
  'SELECT "Page"."id" FROM "page" "Page" ORDER BY spring()',
]

const comparisons = ["=", "!=", "<", ">", "<=", ">=", "<>", "LIKE", "NOT LIKE", "ILIKE", "IN", "BETWEEN", "@@", "= ANY"]

const nasty = [
  ...comparisons,
  ..."( ) , . ; * -- /* */ :: || $1 $2 ' '' 1 0 NOT AND OR IS NULL SELECT DISTINCT ON AS FROM JOIN LEFT INNER".split(
    " ",
  ),
  ..."LATERAL ONLY WHERE ASC DESC LIMIT OFFSET UNION HAVING EXISTS COUNT MAX AVG spring() U& E'a' 'Film'".split(" "),
  ..."USING NATURAL WITH".split(" "),
  ...'"page" "Page" "claim" "name" "text" "id" "Page_id" "page_view" "locking_view" "secret" "drifted"'.split(" "),
  '"Page".*',
  '"Page"."claim"',
  '"a""b"',
  "(SELECT spring())",
  "\n",
  "",
]

/** What may stand behind a text, or behind a table of it. */
const clauses = [
  " FOR UPDATE",
  "FOR SHARE",
  " FOR NO KEY UPDATE SKIP LOCKED",
  " LIMIT (SELECT spring())",
  " ORDER BY spring()",
  " GROUP BY spring()",
  " WHERE spring() > 0",
  " AND spring() > 0",
  ' OR "Page"."claim" IS NULL',
  ' INNER JOIN "page_view" "v" ON "v"."sprung" IS NOT NULL',
  ' LEFT JOIN "drifted" "x" ON "x"."claim" IS NULL',
  ', "locking_view" "v"',
  ' WHERE EXISTS (SELECT 1 FROM "page_view" "v" WHERE "v"."sprung" IS NOT NULL)',
  ' UNION SELECT "v"."sprung" FROM "page_view" "v"',
  "; SELECT spring()",
]

/** Lehmer's generator, 1988: a failure is found again with its seed. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 48_271) % 2_147_483_647
    return state % below
  }
}

const PIECE = /"[^"]*"|\$\d+|\w+|\s+|[^\w\s]/g

function piecesOf(text: string): string[] {
  return text.match(PIECE) ?? []
}

const isName = (piece: string) => piece.startsWith('"')
const isComparison = (piece: string) => comparisons.includes(piece)

function anyOf(
  pieces: readonly string[],
  isOne: (piece: string) => boolean,
  below: (limit: number) => number,
): number | undefined {
  const indexes = [...pieces.keys()].filter((index) => isOne(pieces[index] ?? ""))
  return indexes.length === 0 ? undefined : indexes[below(indexes.length)]
}

/** One to three changes: a piece goes, comes twice, changes places, or another one stands there. */
function mutate(text: string, others: readonly string[], below: (limit: number) => number): string {
  const pieces = piecesOf(text)
  const pick = (from: readonly string[]) => from[below(from.length)] ?? ""
  for (let changes = 1 + below(3); changes > 0; changes--) {
    const at = below(pieces.length)
    const piece = pieces[at] ?? ""
    const other = below(pieces.length)
    const kind = below(9)
    if (kind === 0) pieces.splice(at, 1)
    else if (kind === 1) pieces.splice(at, 0, piece)
    else if (kind === 2) {
      pieces[at] = pieces[other] ?? ""
      pieces[other] = piece
    } else if (kind === 3) pieces.splice(at, 0, pick(nasty))
    else if (kind === 4) pieces[at] = pick(nasty)
    else if (kind === 5) pieces.splice(below(2) === 0 ? pieces.length : at, 0, pick(clauses))
    else if (kind === 6) pieces[anyOf(pieces, isComparison, below) ?? at] = pick(comparisons)
    else {
      // A name for a name is what most often still has the form.
      const names = (kind === 7 ? piecesOf(pick(others)) : pieces).filter(isName)
      pieces[anyOf(pieces, isName, below) ?? at] = pick(names)
    }
  }
  return pieces.join("")
}

describe("PlainReads", () => {
  describeOnEach("what is left of a read that was changed at random", onPostgres, () => {
    const entities = [
      strange("page_view"),
      strange("locking_view"),
      strange("secret"),
      strange("drifted", { claim: "int" }),
    ]
    const subject = useReads("postgres", entities, traps)

    /** Whether the server did more than read: called a function of ours, locked, or gave the transaction an id. */
    async function effectsOf(text: string): Promise<{ failed: boolean; effects: Row }> {
      const { connection } = subject
      const count = Math.max(0, ...[...text.matchAll(/\$(\d+)/g)].map(([, number]) => Number(number)))
      await connection.query("BEGIN")
      try {
        const failed = await connection.query(text, Array(count).fill("1")).then(
          () => false,
          () => true,
        )
        if (failed) await connection.query("ROLLBACK")
        const [effects = {}] = await connection.query(`
          SELECT is_called AS sprung, pg_current_xact_id_if_assigned() IS NOT NULL AS wrote, EXISTS (
            SELECT FROM pg_locks
            WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND mode <> 'AccessShareLock') AS locked
          FROM sprung`)
        return { failed, effects }
      } finally {
        await connection.query("ROLLBACK")
        await connection.query("SELECT setval('sprung', 1, false)")
      }
    }

    const nothing = { sprung: false, wrote: false, locked: false }

    it("springs a trap where one is let through", async () => {
      for (const text of springing) {
        const { failed, effects } = await effectsOf(text)
        expect(failed, text).to.equal(false)
        expect(effects, text).not.to.deep.equal(nothing)
      }
      refused(subject.plainReads, springing)
    })

    it(`does nothing but read, in ${MUTATIONS} changed texts (seed ${SEED})`, async () => {
      for (const read of Object.values({ ...reads, ...postgresReads })) await read(subject.dataSource.manager)
      const all = new Set([...acceptedTexts, ...subject.sent.map(([text]) => text)])
      const texts = [...all]
        .filter((text) => subject.plainReads.has(text, undefined))
        .toSorted((a, b) => a.length - b.length)
      accepted(subject.plainReads, texts)
      expect(texts.length).to.be.above(50)
      const below = random(SEED)
      const left = new Set<string>()
      for (let mutation = 0; mutation < MUTATIONS; mutation++) {
        // Of three the shortest: in a short text a change is more often one that matters.
        const at = Math.min(below(texts.length), below(texts.length), below(texts.length))
        const text = mutate(texts[at] ?? "", texts, below)
        if (!all.has(text) && subject.plainReads.has(text, undefined)) left.add(text)
      }
      let ran = 0
      for (const text of left) {
        const { failed, effects } = await effectsOf(text)
        expect(effects, text).to.deep.equal(nothing)
        if (!failed) ran += 1
      }
      // As many as make the answer worth something.
      expect(ran).to.be.above(500)
    })
  })
})
