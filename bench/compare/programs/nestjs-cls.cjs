require("reflect-metadata")
const { Controller, Get, Module, Res } = require("@nestjs/common")
const { NestFactory } = require("@nestjs/core")
const { Propagation, Transactional, TransactionHost, ClsPluginTransactional } = require("@nestjs-cls/transactional")
const { TransactionalAdapterTypeOrm } = require("@nestjs-cls/transactional-adapter-typeorm")
const { ClsModule } = require("nestjs-cls")
const pg = require("pg")
const { DataSource, EntitySchema } = require("typeorm")
const { actions, decorate, runAll } = require("./common.cjs")

const Note = new EntitySchema({
  name: "note",
  columns: { id: { type: Number, primary: true, generated: "increment" }, text: { type: String } },
})

async function main(uri) {
  const existing = await new DataSource({ type: "postgres", url: uri, entities: [Note] }).initialize()

  class Database {}
  decorate([Module({ providers: [{ provide: DataSource, useValue: existing }], exports: [DataSource] })], Database)

  const kit = (host, response) => ({
    insert: (text) => host.tx.getRepository("note").insert({ text }),
    query: (sql) => host.tx.query(sql),
    nested: (fn) => host.withTransaction(Propagation.Nested, fn),
    own: (fn) => host.withTransaction(Propagation.RequiresNew, fn),
    existing,
    status: (code) => response.status(code),
  })

  class Actions {
    constructor(host) {
      this.host = host
    }
  }
  Reflect.defineMetadata("design:paramtypes", [TransactionHost], Actions)
  for (const [name, action] of Object.entries(actions)) {
    Actions.prototype[name] = function run(response) {
      return action(kit(this.host, response))
    }
    Res({ passthrough: true })(Actions.prototype, name, 0)
    decorate([Get(`/${name}`), Transactional()], Actions.prototype, name)
  }
  decorate([Controller()], Actions)

  class App {}
  const plugin = new ClsPluginTransactional({
    imports: [Database],
    adapter: new TransactionalAdapterTypeOrm({ dataSourceToken: DataSource }),
  })
  decorate(
    [
      Module({
        imports: [ClsModule.forRoot({ global: true, middleware: { mount: true }, plugins: [plugin] })],
        controllers: [Actions],
      }),
    ],
    App,
  )
  const app = await NestFactory.create(App, { logger: false })
  await app.listen(0, "127.0.0.1")
  const close = async () => {
    await app.close()
    await existing.destroy()
  }
  runAll({ pg, uri, port: app.getHttpServer().address().port, close })
}

main(process.argv[2])
