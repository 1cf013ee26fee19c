/** A document knows its latest version, and each version its document: their composite keys refer to each other. */
import "reflect-metadata"
import { Column, Entity, JoinColumn, ManyToOne, OneToMany, PrimaryColumn } from "typeorm"
import { SessionMaker } from "../../../src"

@Entity()
class Document {
  @PrimaryColumn() tenant!: number
  @PrimaryColumn() id!: number
  @Column({ nullable: true }) latestNumber?: number

  @ManyToOne(() => Version, { nullable: true, createForeignKeyConstraints: false })
  @JoinColumn([
    { name: "tenant", referencedColumnName: "tenant" },
    { name: "latestNumber", referencedColumnName: "number" },
  ])
  latest?: Version | null

  @OneToMany(
    () => Version,
    (version) => version.document,
  )
  versions?: Version[]
}

@Entity()
class Version {
  @PrimaryColumn() tenant!: number
  @PrimaryColumn() number!: number
  @Column() documentId!: number

  @ManyToOne(
    () => Document,
    (document) => document.versions,
  )
  @JoinColumn([
    { name: "tenant", referencedColumnName: "tenant" },
    { name: "documentId", referencedColumnName: "id" },
  ])
  document?: Document
}

async function main(): Promise<void> {
  const maker = new SessionMaker("sqlite://", { entities: [Document, Version], synchronize: true })
  await maker.prepare()
  await maker.run(async (session) => {
    await session.insert(Document, { tenant: 1, id: 7 })
    await session.insert(Version, [
      { tenant: 1, number: 1, documentId: 7 },
      { tenant: 1, number: 2, documentId: 7 },
    ])
    await session.update(Document, { tenant: 1, id: 7 }, { latestNumber: 2 })
    const found = await session.findOneOrFail(Document, {
      where: { id: 7 },
      relations: { latest: true, versions: true },
    })
    process.stdout.write(JSON.stringify({ latest: found.latest?.number, versions: found.versions?.length }))
  })
  await maker.close()
}

void main()
