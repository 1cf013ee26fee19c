/**
 * A transaction as a careful engineer writes it in a routing-controllers action. `--one-at-a-time` is for SQLite: TypeORM's
 * better-sqlite3 driver has one query runner for all, so its transactions have to wait for each other.
 */
import "reflect-metadata"
import Koa from "koa"
import { Get, HttpCode, JsonController, Param, Post, useKoaServer } from "routing-controllers"
import type { DataSource, EntityManager } from "typeorm"
import { databaseUri, startDataSource } from "./data-source"
import { NOTE_TEXT, Note, Row } from "./entities"
import { serve } from "./serve"

let dataSource: DataSource
let last: Promise<unknown> = Promise.resolve()

async function transact<T>(work: (manager: EntityManager) => Promise<T>): Promise<T> {
  const runner = dataSource.createQueryRunner()
  try {
    await runner.startTransaction()
    const result = await work(runner.manager)
    await runner.commitTransaction()
    return result
  } catch (error) {
    if (runner.isTransactionActive) await runner.rollbackTransaction()
    throw error
  } finally {
    await runner.release()
  }
}

function transactInTurn<T>(work: (manager: EntityManager) => Promise<T>): Promise<T> {
  const result = last.then(() => transact(work))
  last = result.catch(() => undefined)
  return result
}

const inTransaction = process.argv.includes("--one-at-a-time") ? transactInTurn : transact

@JsonController()
class RowController {
  @Get("/ping")
  ping(): { readonly pong: boolean } {
    return { pong: true }
  }

  @Get("/rows/:id")
  async read(@Param("id") id: number): Promise<string> {
    const { name } = await inTransaction((manager) => manager.findOneByOrFail(Row, { id }))
    return name
  }

  @Post("/rows/:id/notes")
  @HttpCode(201)
  async write(@Param("id") id: number): Promise<{ readonly id: number }> {
    return inTransaction(async (manager) => {
      const row = await manager.findOneByOrFail(Row, { id })
      const note = { rowId: row.id, text: NOTE_TEXT }
      await manager.insert(Note, note)
      return { id: (note as Note).id }
    })
  }
}

async function main(): Promise<void> {
  dataSource = await startDataSource(databaseUri())
  serve(useKoaServer(new Koa(), { controllers: [RowController] }).callback())
}

void main()
