/** The same SQL in the same transaction, without an ORM. */
import "reflect-metadata"
import Koa from "koa"
import { Get, HttpCode, JsonController, Param, Post, useKoaServer } from "routing-controllers"
import { databaseUri, POOL_SIZE } from "./data-source"
import { NOTE_TEXT, type Row } from "./entities"
import { serve } from "./serve"

interface PgClient {
  query<R>(sql: string, values?: readonly unknown[]): Promise<{ readonly rows: R[] }>
  release(): void
}

interface PgPool {
  connect(): Promise<PgClient>
}

// pg ships no types; these are the calls that are made here.
const { Pool } = require("pg") as { Pool: new (options: { connectionString: string; max: number }) => PgPool }
const pool = new Pool({ connectionString: databaseUri(), max: POOL_SIZE })

const SELECT = `SELECT "Row"."id" AS "id", "Row"."name" AS "name", "Row"."email" AS "email", "Row"."score" AS "score" \
FROM "bench_row" "Row" WHERE (("Row"."id" = $1)) LIMIT 1`
const INSERT = `INSERT INTO "bench_note"("rowId", "text") VALUES ($1, $2) RETURNING "id"`

async function inTransaction<T>(work: (client: PgClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  try {
    await client.query("BEGIN")
    const result = await work(client)
    await client.query("COMMIT")
    return result
  } catch (error) {
    await client.query("ROLLBACK")
    throw error
  } finally {
    client.release()
  }
}

async function findRow(client: PgClient, id: number): Promise<Row> {
  const [row] = (await client.query<Row>(SELECT, [id])).rows
  if (row === undefined) throw new Error("There is no such row.")
  return row
}

@JsonController()
class RowController {
  @Get("/rows/:id")
  async read(@Param("id") id: number): Promise<string> {
    const { name } = await inTransaction((client) => findRow(client, id))
    return name
  }

  @Post("/rows/:id/notes")
  @HttpCode(201)
  async write(@Param("id") id: number): Promise<{ readonly id: number } | undefined> {
    return inTransaction(async (client) => {
      const row = await findRow(client, id)
      return (await client.query<{ id: number }>(INSERT, [row.id, NOTE_TEXT])).rows[0]
    })
  }
}

serve(useKoaServer(new Koa(), { controllers: [RowController] }).callback())
