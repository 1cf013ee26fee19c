import { AGGREGATES, OPERATIONS, type ReadCatalog, type ReadColumn } from "./read-catalog"

/** Parameters as the driver takes them: `$1` for pg, `?` for mysql2. */
export interface CatalogQuestion {
  readonly text: string
  readonly parameters: readonly unknown[]
}

/** Names and types of PostgreSQL's catalog are not moved between releases; 16384 is `FirstNormalObjectId` in all of them. */
const POSTGRES = `
WITH custom AS (
  SELECT COALESCE(i.indrelid, k.conrelid, s.stxrelid) AS oid
  FROM pg_catalog.pg_depend d
  LEFT JOIN pg_catalog.pg_index i
    ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid = d.objid
  LEFT JOIN pg_catalog.pg_constraint k
    ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid
  LEFT JOIN pg_catalog.pg_statistic_ext s
    ON d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND s.oid = d.objid
  WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
), read AS (
  SELECT asked.path, c.oid
  FROM pg_catalog.unnest($1::pg_catalog.text[]) AS asked(path)
  JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(asked.path)
  WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.relam IN (0, 2)
    AND NOT c.relrowsecurity AND NOT c.relhassubclass
    AND NOT EXISTS (SELECT FROM custom WHERE custom.oid = c.oid)
), shown AS (
  SELECT read.path, a.attname, a.atttypid
  FROM read JOIN pg_catalog.pg_attribute a ON a.attrelid = read.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE pg_catalog.to_jsonb(a) ->> 'attgenerated' IS DISTINCT FROM 'v'
), compared AS (
  SELECT t.oid, pg_catalog.string_agg(asked.name, ' ') AS operators
  FROM pg_catalog.pg_type t CROSS JOIN pg_catalog.unnest($2::pg_catalog.text[]) AS asked(name)
  WHERE t.oid IN (SELECT atttypid FROM shown)
    AND (t.typtype = 'e' OR t.typtype = 'b' AND t.oid < 16384 AND t.typcategory <> 'A')
    AND (asked.name NOT LIKE '#%' OR t.oid IN (20, 21, 23))
    AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_opclass k JOIN pg_catalog.pg_am m ON m.oid = k.opcmethod AND m.amname IN ('btree', 'hash')
      WHERE k.oid >= 16384 AND k.opcintype = t.oid)
    AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_cast
      WHERE oid >= 16384 AND castsource = t.oid AND casttarget < 16384 AND castcontext = 'i')
    AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_operator o
      WHERE o.oid >= 16384 AND o.oprname = pg_catalog.ltrim(asked.name, '#') AND CASE
        WHEN asked.name LIKE '#%' THEN o.oprleft IN (20, 21, 23) OR o.oprright IN (20, 21, 23)
        WHEN EXISTS (
          SELECT FROM pg_catalog.pg_operator own
          WHERE own.oid < 16384 AND own.oprname = asked.name AND own.oprleft = t.oid AND own.oprright = t.oid)
        THEN o.oprleft = t.oid AND o.oprright = t.oid
        ELSE EXISTS (
          SELECT FROM pg_catalog.pg_type side
          WHERE side.oid IN (o.oprleft, o.oprright) AND (
            side.oid = t.oid OR side.typtype IN ('p', 'd') OR EXISTS (
              SELECT FROM pg_catalog.pg_cast
              WHERE castsource = t.oid AND casttarget = side.oid AND castcontext = 'i')))
        END)
  GROUP BY t.oid
)
SELECT shown.path, shown.attname::pg_catalog.text AS name, shown.atttypid::pg_catalog.text AS type,
  COALESCE(compared.operators, '') AS operators
FROM shown LEFT JOIN compared ON compared.oid = shown.atttypid
UNION ALL
SELECT NULL, asked.name, NULL, NULL
FROM pg_catalog.unnest($3::pg_catalog.text[]) AS asked(name)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.proname = asked.name AND p.oid >= 16384)`

/**
 * Asks for the tables, found as a statement would find them, that are ordinary: no view, no parent of other tables, no row
 * security, no storage but the server's own, and no function or operator of somebody's in an index, a constraint or statistics, since
 * planning may run those that call themselves immutable. Then for their columns, without those that are computed when read,
 * and for each type the operators that a comparison certainly finds among the server's own.
 *
 * An operator of the very type (`text = text`) is found at once, so only somebody's own for the same two types can take its
 * place. Without one (`varchar`, an enum) PostgreSQL looks for the best among all that the type can be turned into. A number
 * in the text is compared with an integer of any size where nobody has an operator for integers.
 */
export function postgresQuestion(paths: readonly string[]): CatalogQuestion {
  return { text: POSTGRES, parameters: [paths.map(quotePath), OPERATIONS, [...AGGREGATES]] }
}

function quotePath(path: string): string {
  return path
    .split(".")
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join(".")
}

/**
 * Asks for the tables that are InnoDB's own, no views, sequences or tables with history: a row each, with no name. In rows of
 * their own come the columns that are not computed when read: a join of the two makes MariaDB 10.11 open the tables of all
 * databases. Functions are not asked for: here the server finds its own before anybody's of the same name.
 */
export function mysqlQuestion(paths: readonly string[]): CatalogQuestion {
  const bySchema = new Map<string | undefined, string[]>()
  for (const path of paths) {
    const parts = path.split(".")
    const table = parts.pop() ?? path
    const schema = parts.length === 0 ? undefined : parts.join(".")
    bySchema.set(schema, [...(bySchema.get(schema) ?? []), table])
  }
  const texts: string[] = []
  const parameters: string[] = []
  for (const [schema, tables] of bySchema) {
    const path = schema === undefined ? "TABLE_NAME" : "CONCAT(TABLE_SCHEMA, '.', TABLE_NAME)"
    const among = `WHERE TABLE_SCHEMA = ${schema === undefined ? "DATABASE()" : "?"} AND TABLE_NAME IN (${tables.map(() => "?").join(", ")})`
    texts.push(
      `SELECT ${path} AS path, NULL AS name FROM information_schema.TABLES ${among} AND TABLE_TYPE = 'BASE TABLE' AND ENGINE = 'InnoDB'`,
      `SELECT ${path}, COLUMN_NAME FROM information_schema.COLUMNS ${among} AND EXTRA NOT LIKE '%VIRTUAL%'`,
    )
    const own = schema === undefined ? tables : [schema, ...tables]
    parameters.push(...own, ...own)
  }
  return { text: texts.join(" UNION ALL "), parameters }
}

interface CatalogRow {
  readonly path: string | null
  readonly name: string | null
  readonly type?: unknown
  readonly operators?: unknown
}

type Tables = ReadonlyMap<string, ReadonlySet<string>>
type Answer = Omit<ReadCatalog, "literals">

/** @returns what the metadata and the answer to `postgresQuestion()` agree on */
export function postgresAnswer(tables: Tables, rows: readonly unknown[]): Answer {
  const paths = new Map([...tables.keys()].map((path) => [quotePath(path), path]))
  const known = new Map<string, Map<string, ReadColumn>>()
  const functions = new Set<string>()
  const operatorSets = new Map<string, ReadonlySet<string>>()
  for (const { path: quoted, name, type, operators } of rows.filter(isCatalogRow)) {
    if (name === null) continue
    if (quoted === null) functions.add(name)
    const path = quoted === null ? undefined : paths.get(quoted)
    if (path === undefined || !tables.get(path)?.has(name)) continue
    if (typeof type !== "string" || typeof operators !== "string") continue
    const set = operatorSets.get(operators) ?? new Set(operators.split(" "))
    operatorSets.set(operators, set)
    known.set(path, (known.get(path) ?? new Map<string, ReadColumn>()).set(name, { type, operators: set }))
  }
  return { dialect: "postgres", tables: known, functions }
}

/** MySQL has no operators but its own, whatever they compare. */
const MYSQL_COLUMN: ReadColumn = { type: "any", operators: new Set(OPERATIONS) }

/** @returns what the metadata and the answer to `mysqlQuestion()` agree on */
export function mysqlAnswer(tables: Tables, rows: readonly unknown[]): Answer {
  const known = new Map<string, Map<string, ReadColumn>>()
  const answers = rows.filter(isCatalogRow)
  for (const { path, name } of answers) {
    if (path !== null && name === null && tables.has(path)) known.set(path, new Map())
  }
  for (const { path, name } of answers) {
    if (path !== null && name !== null && tables.get(path)?.has(name)) known.get(path)?.set(name, MYSQL_COLUMN)
  }
  return { dialect: "mysql", tables: known, functions: new Set(AGGREGATES) }
}

function isCatalogRow(row: unknown): row is CatalogRow {
  if (typeof row !== "object" || row === null) return false
  const { path, name } = row as Partial<CatalogRow>
  return [path, name].every((value) => value === null || typeof value === "string")
}
