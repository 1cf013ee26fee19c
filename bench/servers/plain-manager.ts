/** No transaction at all: `dataSource.manager`. */
import "reflect-metadata"
import Koa from "koa"
import { Get, HttpCode, JsonController, Param, Post, useKoaServer } from "routing-controllers"
import type { DataSource } from "typeorm"
import { databaseUri, startDataSource } from "./data-source"
import { NOTE_TEXT, Note, Row } from "./entities"
import { serve } from "./serve"

let dataSource: DataSource

@JsonController()
class RowController {
  @Get("/rows/:id")
  async read(@Param("id") id: number): Promise<string> {
    const { name } = await dataSource.manager.findOneByOrFail(Row, { id })
    return name
  }

  @Post("/rows/:id/notes")
  @HttpCode(201)
  async write(@Param("id") id: number): Promise<{ readonly id: number }> {
    const row = await dataSource.manager.findOneByOrFail(Row, { id })
    const note = { rowId: row.id, text: NOTE_TEXT }
    await dataSource.manager.insert(Note, note)
    return { id: (note as Note).id }
  }
}

async function main(): Promise<void> {
  dataSource = await startDataSource(databaseUri())
  serve(useKoaServer(new Koa(), { controllers: [RowController] }).callback())
}

void main()
