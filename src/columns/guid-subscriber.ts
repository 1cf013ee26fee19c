import type { EntityMetadata, EntitySubscriberInterface, InsertEvent, ObjectLiteral } from "typeorm"
import { GuidTransformer } from "./guid-transformer"
import { generateGuid } from "./guid-value"

/**
 * Gives new rows their GUID before the insert, whether they are entities or plain objects, through `save()`, `insert()`
 * or a query builder. The object that the caller passed carries the id afterwards.
 */
export class GuidSubscriber implements EntitySubscriberInterface<ObjectLiteral> {
  beforeInsert({ entity, metadata }: InsertEvent<ObjectLiteral>): void {
    if (entity === undefined) return
    for (const column of applicationGuids(metadata)) {
      const value = column.getEntityValue(entity)
      if (value !== undefined && !(value === null && column.isPrimary)) continue
      column.setEntityValue(entity, generateGuid((column.transformer as GuidTransformer).version))
    }
  }
}

type Columns = EntityMetadata["columns"]

const columnsOf = new WeakMap<EntityMetadata, Columns>()

/** Columns whose GUID this process makes. Kept per metadata: the subscriber is asked at every insert. */
export function applicationGuids(metadata: EntityMetadata): Columns {
  let columns = columnsOf.get(metadata)
  if (columns === undefined) {
    columns = metadata.columns.filter(
      ({ transformer }) => transformer instanceof GuidTransformer && transformer.generation === "application",
    )
    columnsOf.set(metadata, columns)
  }
  return columns
}
