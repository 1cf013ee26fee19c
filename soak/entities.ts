import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn } from "typeorm"

@Entity()
export class Account {
  @PrimaryColumn({ type: "int" })
  id!: number

  /** a check constraint keeps it from going below 0 */
  @Column({ type: "int" })
  balance!: number
}

/** One transfer. The table is made by the audit's side, with its constraints. */
@Entity("ledger")
export class LedgerEntry {
  @PrimaryGeneratedColumn()
  number!: number

  /** unique; given by the client */
  @Column({ type: "varchar", name: "transfer_id" })
  transferId!: string

  @Column({ type: "int", name: "from_id" })
  fromId!: number

  @Column({ type: "int", name: "to_id" })
  toId!: number

  @Column({ type: "int" })
  amount!: number

  /** must be an account; PostgreSQL and SQLite look at it in the COMMIT */
  @Column({ type: "int", nullable: true })
  witness!: number | null
}
