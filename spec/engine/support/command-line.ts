/** What TypeORM's command line is given: a `DataSource` that was built, and perhaps prepared by a maker as well. */
import "reflect-metadata"
import { Column, type DataSource, Entity } from "typeorm"
import { buildDataSource, PrimaryGuid, SessionMaker } from "../../../src"

@Entity()
export class Planned {
  @PrimaryGuid() id!: string
  @Column() name!: string
}

async function prepared(): Promise<DataSource> {
  const dataSource = buildDataSource(process.env.DATABASE_URI ?? "")
  if (process.env.PREPARED === "yes") await new SessionMaker(dataSource).prepare()
  return dataSource
}

// TypeORM wants a default export, which the house style has nowhere else.
module.exports = { default: prepared() }
