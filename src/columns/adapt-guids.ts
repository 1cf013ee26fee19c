import { DataSource, type EntityMetadata } from "typeorm"
import { applicationGuids, GuidSubscriber } from "./guid-subscriber"
import { GuidTransformer } from "./guid-transformer"

type ColumnMetadata = EntityMetadata["columns"][number]

const POSTGRES_FAMILY: readonly string[] = ["postgres", "cockroachdb", "aurora-postgres"]

/**
 * Fits the GUID columns of a `DataSource` to its database and makes it fill those of plain objects. Does nothing where
 * there are none, and nothing more when called again. Best called once the metadata are built and before the schema is
 * synchronised (`GuidDataSource` does); after `initialize()` all but the schema still follows.
 */
export function adaptGuids(dataSource: DataSource): void {
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

/** A `DataSource` whose GUID columns are adapted before TypeORM creates extensions and synchronises the schema. */
export class GuidDataSource extends DataSource {
  protected override async buildMetadatas(): Promise<void> {
    await super.buildMetadatas()
    adaptGuids(this)
  }

  /** Builds the metadata before `initialize()` does, without a connection. */
  async prepareMetadata(): Promise<void> {
    await this.buildMetadatas()
  }
}

/** Foreign keys take the form of the GUID they refer to; TypeORM copies the type but not the transformer. */
function adaptReference(column: ColumnMetadata, metadata: EntityMetadata): void {
  if (column.transformer !== undefined) return
  let referenced = column.referencedColumn
  while (referenced?.transformer === undefined && referenced?.referencedColumn !== undefined) {
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
