/** This library. `--ambient`: with `sessions({ ambient: true })`; `--resolve-commits`: with the maker's option `resolveCommits`. */
import "reflect-metadata"
import Koa from "koa"
import { Get, HttpCode, JsonController, Param, Post } from "routing-controllers"
import { Session, SessionMaker, useKoaServer } from "routing-controllers-typeorm"
import { Container } from "typedi"
import { databaseUri, POOL_SIZE } from "./data-source"
import { ENTITIES, NOTE_TEXT, Note, Row } from "./entities"
import { serve } from "./serve"

@JsonController()
class RowController {
  @Get("/ping")
  ping(): { readonly pong: boolean } {
    return { pong: true }
  }

  @Get("/rows/:id")
  async read(@Session() db: Session, @Param("id") id: number): Promise<string> {
    const { name } = await db.findOneByOrFail(Row, { id })
    return name
  }

  @Post("/rows/:id/notes")
  @HttpCode(201)
  async write(@Session() db: Session, @Param("id") id: number): Promise<{ readonly id: number }> {
    const row = await db.findOneByOrFail(Row, { id })
    const note = { rowId: row.id, text: NOTE_TEXT }
    await db.insert(Note, note)
    return { id: (note as Note).id }
  }
}

const resolveCommits = process.argv.includes("--resolve-commits")
const maker = new SessionMaker(databaseUri(), { entities: ENTITIES, poolSize: POOL_SIZE, resolveCommits })
Container.set(SessionMaker, maker)
const ambient = process.argv.includes("--ambient")
const app = useKoaServer(new Koa(), { controllers: [RowController], sessions: { ambient } })
serve(app.callback(), async (count) => {
  const sessions: Session[] = []
  for (let opened = 0; opened < count; opened++) sessions.push(await maker.open())
  return sessions
})
