import { Column, Entity, ManyToOne, PrimaryColumn, PrimaryGeneratedColumn, type Relation } from "typeorm"

/** `text` is unique: the constraint that specs break at a statement. */
@Entity()
export class Note {
  @PrimaryGeneratedColumn()
  id!: number

  @Column({ unique: true, length: 40 })
  text!: string
}

/** Its foreign key is checked at COMMIT: the constraint that specs break there. */
@Entity()
export class Remark {
  @PrimaryGeneratedColumn()
  id!: number

  @ManyToOne(() => Note, { deferrable: "INITIALLY DEFERRED" })
  note!: Relation<Note>

  @Column()
  noteId!: number
}

@Entity()
export class Counter {
  @PrimaryColumn()
  id!: number

  @Column()
  value!: number
}

export const httpEntities = [Note, Remark, Counter]
