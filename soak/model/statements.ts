import { type EntityManager, EntitySchema, Not } from "typeorm"
import type { FailStep, RawEndStep, ReadStep, TableName, WriteStep } from "./program"

export interface Cell {
  id: number
  value: number
}

// Schemas and no decorated classes: those would be part of every application that is built in the same process.
const columns = { id: { type: "int", primary: true }, value: { type: "int" } } as const
export const CELLS = {
  a: new EntitySchema<Cell>({ name: "ModelCellA", tableName: "model_a", columns }),
  b: new EntitySchema<Cell>({ name: "ModelCellB", tableName: "model_b", columns }),
} as const satisfies Record<TableName, unknown>

export const TABLES: readonly TableName[] = ["a", "b"]
export const MODEL_ENTITIES = Object.values(CELLS)

const FIRST_MARK = 1_000_000
const MARKS_PER_STEP = 10

/** The number by which a statement is found in what was sent; written as the value where it writes. */
export function markOf(id: number, part = 0): number {
  return FIRST_MARK + id * MARKS_PER_STEP + part
}

/** @returns the marks that a statement holds */
export function marksIn(text: string, parameters: readonly unknown[]): number[] {
  const inText = [...text.matchAll(/\b[1-9]\d{6}\b/g)].map(([digits]) => Number(digits))
  const given = parameters.filter((value): value is number => typeof value === "number" && value >= FIRST_MARK)
  return [...inText, ...given]
}

export function stepOfMark(mark: number): { id: number; part: number } {
  const number = mark - FIRST_MARK
  return { id: Math.floor(number / MARKS_PER_STEP), part: number % MARKS_PER_STEP }
}

/** The rows that a step may write, the first one with the part 0 of its mark. */
export function keysOf({ kind, key }: WriteStep): readonly number[] {
  return kind === "save-two" ? [key, key + 1] : [key]
}

/** Issues the statement of a step. */
export function send(db: EntityManager, step: WriteStep | ReadStep | FailStep | RawEndStep): Promise<unknown> {
  switch (step.do) {
    case "write":
      return write(db, step)
    case "read":
      return read(db, step)
    case "fail":
      return fail(db, step)
    case "raw":
      // The mark tells it from the one that the session sends.
      return db.query(
        `${step.verb === "TRUNCATE" ? "TRUNCATE TABLE model_scratch" : step.verb} /* ${markOf(step.id)} */`,
      )
  }
}

function write(db: EntityManager, step: WriteStep): Promise<unknown> {
  const cells = CELLS[step.table]
  const table = `model_${step.table}`
  const { key: id } = step
  const value = markOf(step.id)
  switch (step.kind) {
    case "insert":
      return db.insert(cells, { id, value })
    case "save":
      return db.save(cells, { id, value })
    case "save-two":
      return db.save(
        cells,
        keysOf(step).map((key, part) => ({ id: key, value: markOf(step.id, part) })),
      )
    case "update":
      return db.update(cells, { id }, { value })
    case "delete":
      return db.delete(cells, { id, value: Not(value) })
    case "upsert":
      return db.upsert(cells, { id, value }, ["id"])
    case "builder-insert":
      return db.createQueryBuilder().insert().into(cells).values({ id, value }).execute()
    case "builder-update":
      return db.createQueryBuilder().update(cells).set({ value }).where({ id }).execute()
    case "builder-delete":
      return db
        .createQueryBuilder()
        .delete()
        .from(cells)
        .where({ id, value: Not(value) })
        .execute()
    case "repository-save":
      return db.getRepository(cells).save({ id, value })
    case "raw-insert":
      return db.query(`INSERT INTO ${table} (id, value) VALUES (${id}, ${value})`)
    case "raw-update":
      return db.query(`UPDATE ${table} SET value = ${value} WHERE id = ${id}`)
    case "raw-delete":
      return db.query(`DELETE FROM ${table} WHERE id = ${id} AND value <> ${value}`)
  }
}

/** @returns the rows, or how many there are */
async function read(db: EntityManager, step: ReadStep): Promise<Cell[] | number> {
  const cells = CELLS[step.table]
  const mark = markOf(step.id)
  switch (step.kind) {
    case "find":
      return db.find(cells, { where: { value: Not(mark) } })
    case "builder":
      return db.createQueryBuilder(cells, "cell").where("cell.value <> :mark", { mark }).getMany()
    case "raw":
      return (await db.query(`SELECT id, value FROM model_${step.table} WHERE value <> ${mark}`)) as Cell[]
    case "count":
      return db.countBy(cells, { value: Not(mark) })
  }
}

function fail(db: EntityManager, step: FailStep): Promise<unknown> {
  const mark = markOf(step.id)
  switch (step.kind) {
    case "syntax":
      return db.query(`NONSENSE ${mark}`)
    case "column":
      return db.query(`SELECT nothing_of_this_name FROM model_a WHERE value <> ${mark}`)
    case "not-null":
      return db.query(`INSERT INTO model_a (id, value) VALUES (${mark}, NULL)`)
    case "builder-column":
      return db.createQueryBuilder(CELLS.a, "cell").where("nothing_of_this_name <> :mark", { mark }).getMany()
  }
}
