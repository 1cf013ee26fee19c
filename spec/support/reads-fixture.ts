import { expect } from "chai"
import { DataSource, EntitySchema, getMetadataArgsStorage, type Logger } from "typeorm"
import { PlainReads } from "../../src/engine/plain-reads"
import { type CreatedDatabase, type SecondConnection, testDatabases } from "./databases"
import { addReadRows, readEntities } from "./read-entities"

// Makes TypeORM's global at load time: made during a spec, it would be taken for a leak of that spec.
getMetadataArgsStorage()

export type Kind = "postgres" | "mysql"
type Statement = readonly [text: string, parameters: unknown[] | undefined]

export const onPostgres = testDatabases.filter(({ kind }) => kind === "postgres")
export const onMysql = testDatabases.filter(({ kind }) => kind === "mysql")
export const onServers = [...onPostgres, ...onMysql]

/** Entities of tables that are made by hand: what the metadata call a table may be anything. */
export function strange(
  tableName: string,
  columns: Record<string, "int" | "varchar"> = { title: "varchar" },
): EntitySchema {
  const others = Object.fromEntries(Object.entries(columns).map(([name, type]) => [name, { type }]))
  return new EntitySchema({
    name: `strange_${tableName}`,
    tableName,
    columns: { id: { type: "int", primary: true }, ...others },
  })
}

export interface Subject {
  readonly database: CreatedDatabase
  readonly dataSource: DataSource
  readonly connection: SecondConnection
  /** Every statement that TypeORM sends. */
  readonly sent: Statement[]
  readonly plainReads: PlainReads
  /** Has the server asked again, after its schema has changed. */
  learn(): Promise<void>
}

/** One database for the `describe`, with the tables of `readEntities` and rows in them. */
export function useReads(kind: Kind, entities: readonly EntitySchema[] = [], prepare: readonly string[] = []): Subject {
  const subject = { sent: [] as Statement[] } as { -readonly [Name in keyof Subject]: Subject[Name] }
  const logger: Logger = {
    logQuery: (text, parameters) => subject.sent.push([text, parameters && Object.values(parameters)]),
    logQueryError() {},
    logQuerySlow() {},
    logSchemaBuild() {},
    logMigration() {},
    log() {},
  }
  const open = (more: readonly EntitySchema[]) => {
    const options = { url: subject.database.uri, entities: [...readEntities, ...more], logger }
    return new DataSource(
      kind === "postgres" ? { type: kind, ...options } : { type: "mariadb", ...options },
    ).initialize()
  }

  before(async () => {
    const testDatabase = onServers.find((database) => database.kind === kind)
    if (testDatabase === undefined) throw new Error(`There are no specs on ${kind}`)
    subject.database = await testDatabase.createDatabase()
    subject.connection = await subject.database.open()
    const first = await open([])
    await first.synchronize()
    await addReadRows(first.manager)
    await first.destroy()
    for (const statement of prepare) await subject.connection.query(statement)
    subject.dataSource = await open(entities)
    subject.plainReads = new PlainReads(subject.dataSource)
    subject.learn = async () => {
      const { text = "", parameters = [] } = subject.plainReads.question ?? {}
      subject.plainReads.learn(await subject.dataSource.query(text, [...parameters]))
    }
    await subject.learn()
  })
  after(async () => {
    await subject.dataSource?.destroy()
    await subject.database?.drop()
  })
  return subject
}

export function refused(plainReads: PlainReads, texts: readonly string[]): void {
  expect(texts.filter((text) => plainReads.has(text, undefined))).to.deep.equal([])
}

export function accepted(plainReads: PlainReads, texts: readonly string[]): void {
  const reasons = texts.flatMap((text) => plainReads.refusalOf(text) ?? [])
  expect(reasons).to.deep.equal([])
}

/** In backticks, with MySQL's parameters. */
export function toMysql(text: string): string {
  return text.replaceAll('"', "`").replaceAll(/\$\d/g, "?")
}
