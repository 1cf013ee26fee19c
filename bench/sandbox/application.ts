import "reflect-metadata"
import { Body, Get, JsonController, Post } from "routing-controllers"
import { Session } from "routing-controllers-typeorm"
import { Column, Entity, Index, ManyToOne, PrimaryGeneratedColumn, type Relation } from "typeorm"

@Entity()
export class Account {
  @PrimaryGeneratedColumn()
  id!: number

  @Column({ unique: true, length: 60 })
  name!: string
}

/** Tables as an application of middling size has them: each refers to the accounts, and has an index of its own. */
function defineTable(name: string): new () => { id: number; account: Relation<Account>; label: string } {
  class Table {
    id!: number
    account!: Relation<Account>
    label!: string
  }
  PrimaryGeneratedColumn()(Table.prototype, "id")
  ManyToOne(() => Account, { nullable: false })(Table.prototype, "account")
  Column({ type: "varchar", length: 60 })(Table.prototype, "label")
  Index()(Table.prototype, "label")
  Entity(name)(Table)
  return Table
}

export const TABLES = Number(process.env.TABLES ?? 30)
const tables = Array.from({ length: TABLES - 1 }, (_, index) => defineTable(`part_${index}`))
export const entities = [Account, ...tables]

@JsonController("/accounts")
export class AccountController {
  @Post("/")
  async create(@Session() db: Session, @Body() { name }: { name: string }): Promise<object> {
    const account = await db.save(Account, { name })
    const Part = tables[0] as new () => object
    await db.save(Part, { account, label: `first part of ${name}` })
    return { id: account.id }
  }

  @Get("/")
  async count(@Session() db: Session): Promise<object> {
    return { accounts: await db.count(Account), parts: await db.count(tables[0] as new () => object) }
  }
}
