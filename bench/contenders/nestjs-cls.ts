/** NestJS on its default platform, with the transactional plugin of nestjs-cls. */
import "reflect-metadata"
import { Controller, Get, Inject, Injectable, Module, Param, ParseIntPipe, Post } from "@nestjs/common"
import { NestFactory } from "@nestjs/core"
import { ClsPluginTransactional, Transactional, TransactionHost } from "@nestjs-cls/transactional"
import { TransactionalAdapterTypeOrm } from "@nestjs-cls/transactional-adapter-typeorm"
import { ClsModule } from "nestjs-cls"
import { DataSource, type EntityManager } from "typeorm"
import { databaseUri, startDataSource } from "../servers/data-source"
import { NOTE_TEXT, Note, Row } from "../servers/entities"
import { serve } from "../servers/serve"

@Injectable()
class Rows {
  constructor(@Inject(TransactionHost) private readonly host: { readonly tx: EntityManager }) {}

  @Transactional()
  async read(id: number): Promise<string> {
    const { name } = await this.host.tx.findOneByOrFail(Row, { id })
    return name
  }

  @Transactional()
  async write(id: number): Promise<{ readonly id: number }> {
    const row = await this.host.tx.findOneByOrFail(Row, { id })
    const note = { rowId: row.id, text: NOTE_TEXT }
    await this.host.tx.insert(Note, note)
    return { id: (note as Note).id }
  }
}

@Controller()
class RowController {
  constructor(@Inject(Rows) private readonly rows: Rows) {}

  @Get("/rows/:id")
  async read(@Param("id", ParseIntPipe) id: number): Promise<string> {
    return this.rows.read(id)
  }

  @Post("/rows/:id/notes")
  async write(@Param("id", ParseIntPipe) id: number): Promise<{ readonly id: number }> {
    return this.rows.write(id)
  }
}

@Module({
  providers: [{ provide: DataSource, useFactory: () => startDataSource(databaseUri()) }],
  exports: [DataSource],
})
class DatabaseModule {}

@Module({
  imports: [
    DatabaseModule,
    ClsModule.forRoot({
      global: true,
      middleware: { mount: true },
      plugins: [
        new ClsPluginTransactional({
          imports: [DatabaseModule],
          adapter: new TransactionalAdapterTypeOrm({ dataSourceToken: DataSource }),
        }),
      ],
    }),
  ],
  controllers: [RowController],
  providers: [Rows],
})
class AppModule {}

async function main(): Promise<void> {
  const app = await NestFactory.create(AppModule, { logger: false })
  await app.init()
  serve(app.getHttpAdapter().getInstance())
}

void main()
