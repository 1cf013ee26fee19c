import { Column, Entity, PrimaryColumn, PrimaryGeneratedColumn } from "typeorm"

/** Of the rows that every server reads by their key; the table has `ROWS` of them, from 1 up. */
@Entity("bench_row")
export class Row {
  @PrimaryColumn("int")
  id!: number

  @Column("varchar")
  name!: string

  @Column("varchar")
  email!: string

  @Column("int")
  score!: number
}

/** Of what is inserted. */
@Entity("bench_note")
export class Note {
  @PrimaryGeneratedColumn()
  id!: number

  @Column("int")
  rowId!: number

  @Column("varchar")
  text!: string
}

export const ENTITIES = [Row, Note]

/** What a note says; not more than a few words, as in the other contenders. */
export const NOTE_TEXT = "a few words on this row"
