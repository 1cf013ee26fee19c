/** typeorm-transactional: `@Transactional()` around methods, the manager found through `AsyncLocalStorage`. */
import "reflect-metadata"
import Koa from "koa"
import { Get, HttpCode, JsonController, Param, Post, useKoaServer } from "routing-controllers"
import { DataSource } from "typeorm"
import { addTransactionalDataSource, initializeTransactionalContext, Transactional } from "typeorm-transactional"
import { databaseUri, dataSourceOptions } from "../servers/data-source"
import { NOTE_TEXT, Note, Row } from "../servers/entities"
import { serve } from "../servers/serve"

initializeTransactionalContext()
const dataSource = addTransactionalDataSource(new DataSource(dataSourceOptions(databaseUri()))) as DataSource

@JsonController()
class RowController {
  @Get("/rows/:id")
  @Transactional()
  async read(@Param("id") id: number): Promise<string> {
    const { name } = await dataSource.manager.findOneByOrFail(Row, { id })
    return name
  }

  @Post("/rows/:id/notes")
  @HttpCode(201)
  @Transactional()
  async write(@Param("id") id: number): Promise<{ readonly id: number }> {
    const row = await dataSource.manager.findOneByOrFail(Row, { id })
    const note = { rowId: row.id, text: NOTE_TEXT }
    await dataSource.manager.insert(Note, note)
    return { id: (note as Note).id }
  }
}

async function main(): Promise<void> {
  await dataSource.initialize()
  serve(useKoaServer(new Koa(), { controllers: [RowController] }).callback())
}

void main()
