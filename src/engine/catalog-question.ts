import { AGGREGATES, OPERATIONS, type ReadCatalog, type ReadColumn } from "./read-catalog"

/** Parameters as the driver takes them: `$1` for pg, `?` for mysql2. */
export interface CatalogQuestion {
  readonly text: string
  readonly parameters: readonly unknown[]
}

/** Names and types of PostgreSQL's catalog are not moved between releases; 16384 is `FirstNormalObjectId` in all of them. */
const POSTGRES = `
WITH read AS (
  SELECT asked.path, c.oid
  FROM pg_catalog.unnest($1::pg_catalog.text[]) AS asked(path)
  JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(asked.path)
  WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.relam IN (0, 2)
    AND NOT c.relrowsecurity AND NOT c.relhassubclass
    AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND (
        d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND d.objid IN (SELECT i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid)
        OR d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
          AND d.objid IN (SELECT k.oid FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid)
        OR d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass
          AND d.objid IN (SELECT s.oid FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid)))
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
 * security, no storage but the server's own, and no function of somebody's in an index, a constraint or statistics, since
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
 * Asks for the tables that are InnoDB's own, no views, sequences or tables with history, and for their columns without those
 * that are computed when read. Functions are not asked for: here the server finds its own before anybody's of the same name.
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
    const isSchema = schema === undefined ? "= DATABASE()" : "= ?"
    texts.push(
      `SELECT ${schema === undefined ? "c.TABLE_NAME" : "CONCAT(c.TABLE_SCHEMA, '.', c.TABLE_NAME)"} AS path, c.COLUMN_NAME AS name
       FROM information_schema.TABLES t
       JOIN information_schema.COLUMNS c ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME
       WHERE t.TABLE_SCHEMA ${isSchema} AND c.TABLE_SCHEMA ${isSchema} AND t.TABLE_NAME IN (${tables.map(() => "?").join(", ")})
       AND t.TABLE_TYPE = 'BASE TABLE' AND t.ENGINE = 'InnoDB' AND c.EXTRA NOT LIKE '%VIRTUAL%'`,
    )
    parameters.push(...(schema === undefined ? [] : [schema, schema]), ...tables)
  }
  return { text: texts.join(" UNION ALL "), parameters }
}

interface CatalogRow {
  /** `null` in the row of a function. */
  readonly path: string | null
  readonly name: string
  readonly type?: string
  readonly operators?: string
}

/** What the metadata and the answer agree on. */
export function catalogOf(
  dialect: ReadCatalog["dialect"],
  tables: ReadonlyMap<string, ReadonlySet<string>>,
  rows: readonly unknown[],
): Omit<ReadCatalog, "literals"> {
  const paths = new Map([...tables.keys()].map((path) => [dialect === "postgres" ? quotePath(path) : path, path]))
  const known = new Map<string, Map<string, ReadColumn>>()
  const functions = new Set<string>(dialect === "mysql" ? AGGREGATES : [])
  const operatorSets = new Map<string, ReadonlySet<string>>()
  for (const row of rows.filter(isCatalogRow)) {
    const path = row.path === null ? undefined : paths.get(row.path)
    if (row.path === null) functions.add(row.name)
    if (path === undefined || !tables.get(path)?.has(row.name)) continue
    const { type, operators } = dialect === "mysql" ? MYSQL_COLUMN : row
    if (type === undefined || operators === undefined) continue
    const set = operatorSets.get(operators) ?? new Set(operators.split(" "))
    operatorSets.set(operators, set)
    const columns = known.get(path) ?? new Map<string, ReadColumn>()
    known.set(path, columns.set(row.name, { type, operators: set }))
  }
  return { dialect, tables: known, functions }
}

/** MySQL has no operators but its own, whatever they compare. */
const MYSQL_COLUMN = { type: "any", operators: OPERATIONS.join(" ") }

function isCatalogRow(row: unknown): row is CatalogRow {
  if (typeof row !== "object" || row === null) return false
  const { path, name } = row as Partial<CatalogRow>
  return typeof name === "string" && (path === null || typeof path === "string")
}
