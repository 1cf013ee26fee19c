import type { DataSource, EntityMetadata } from "typeorm"
import { applicationGuids, GuidSubscriber } from "./guid-subscriber"
import { GuidTransformer } from "./guid-transformer"

type ColumnMetadata = EntityMetadata["columns"][number]

const POSTGRES_FAMILY: readonly string[] = ["postgres", "cockroachdb", "aurora-postgres"]

const followed = new WeakSet<DataSource>()

/**
 * Fits the GUID columns of a `DataSource` to its database and makes it fill those of plain objects: at once where its
 * metadata are built, and whenever it builds them, which is before the schema is synchronised and before a statement is
 * planned. Does nothing where there are none, and nothing more when called again.
 *
 * TypeORM has no hook there. Read for this: typeorm 1.1.1 `data-source/DataSource.js` (`initialize()` connects, awaits
 * `this.buildMetadatas()`, which replaces metadata and subscribers, and then synchronises). The method is laid over on this one
 * object, not on the class. `spec/columns/adapt-guids.spec.ts` fails when this changes.
 */
export function adaptGuids(dataSource: DataSource): void {
  if (!followed.has(dataSource)) {
    followed.add(dataSource)
    const { buildMetadatas: build } = dataSource as unknown as MetadataBuilder
    Object.defineProperty(dataSource, "buildMetadatas", {
      configurable: true,
      writable: true,
      value: async function buildAdaptedMetadatas(): Promise<void> {
        await build.call(dataSource)
        adaptMetadata(dataSource)
      },
    })
  }
  adaptMetadata(dataSource)
}

/** Builds the metadata, adapted, before `initialize()` does, without a connection. */
export async function buildAdaptedMetadata(dataSource: DataSource): Promise<void> {
  adaptGuids(dataSource)
  await (dataSource as unknown as MetadataBuilder).buildMetadatas()
}

/** What TypeORM declares as protected. */
interface MetadataBuilder {
  buildMetadatas(): Promise<void>
}

function adaptMetadata(dataSource: DataSource): void {
  const onPostgres = POSTGRES_FAMILY.includes(dataSource.options.type)
  for (const metadata of dataSource.entityMetadatas) {
    for (const column of metadata.columns) {
      adaptReference(column, metadata)
      if (!(column.transformer instanceof GuidTransformer)) continue
      if (onPostgres) adaptForPostgres(column, column.transformer, metadata)
      else if (isTextOnMysql(dataSource, column)) column.length = "36"
    }
  }
  const needed = dataSource.entityMetadatas.some((metadata) => applicationGuids(metadata).length > 0)
  if (needed && !dataSource.subscribers.some((one) => one instanceof GuidSubscriber)) {
    dataSource.subscribers.push(new GuidSubscriber())
  }
}

/** Foreign keys take the form of the GUID they refer to; TypeORM copies the type but not the transformer. */
function adaptReference(column: ColumnMetadata, metadata: EntityMetadata): void {
  if (column.transformer !== undefined) return
  let referenced = column.referencedColumn
  // Composite keys may refer to each other in a circle: a document to its latest version, a version to its document.
  const visited = new Set([column])
  while (referenced !== undefined && referenced.transformer === undefined && !visited.has(referenced)) {
    visited.add(referenced)
    referenced = referenced.referencedColumn
  }
  if (!(referenced?.transformer instanceof GuidTransformer)) return
  column.transformer = referenced.transformer.forReference(`${metadata.name}.${column.propertyName}`)
}

function adaptForPostgres(column: ColumnMetadata, transformer: GuidTransformer, metadata: EntityMetadata): void {
  if (transformer.generation === "none") return
  // TypeORM would try to create an extension for what it lists here. gen_random_uuid() needs none since PostgreSQL 13;
  // for older servers there is setupGuidsPostgres().
  metadata.generatedColumns = metadata.generatedColumns.filter((one) => one !== column)
  if (transformer.generation === "server") return
  // As a generated column its DDL would get a server default, and an insert would send DEFAULT in place of our value.
  column.isGenerated = false
  Reflect.deleteProperty(column, "generationStrategy")
  // Not `undefined` means: part of RETURNING, so the id comes back even to an insert with listeners off. No DDL.
  column.default = null
  if (!transformer.fillsMissing) column.transformer = transformer.filling()
}

/** TypeORM gives 36 characters only to generated and referencing columns there; others would become varchar(255). */
function isTextOnMysql({ driver, options }: DataSource, column: ColumnMetadata): boolean {
  return (options.type === "mysql" || options.type === "mariadb") && driver.normalizeType(column) === "varchar"
}
