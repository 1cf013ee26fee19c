const { createRequire } = require("node:module")
const { join } = require("node:path")

require("reflect-metadata")
const fromRoot = createRequire(join(__dirname, "..", "..", "..", "package.json"))
const Koa = fromRoot("koa")
const { Ctx, Get, JsonController, useKoaServer } = fromRoot("routing-controllers")
const pg = require("pg")
const { DataSource, EntitySchema } = require("typeorm")
const {
  addTransactionalDataSource,
  initializeTransactionalContext,
  Propagation,
  runInTransaction,
  runOnTransactionCommit,
  StorageDriver,
  Transactional,
} = require("typeorm-transactional")
const { actions, decorate, runAll } = require("./common.cjs")

const Note = new EntitySchema({
  name: "note",
  columns: { id: { type: Number, primary: true, generated: "increment" }, text: { type: String } },
})

async function main(uri) {
  initializeTransactionalContext({ storageDriver: StorageDriver.ASYNC_LOCAL_STORAGE })
  const existing = addTransactionalDataSource(new DataSource({ type: "postgres", url: uri, entities: [Note] }))
  await existing.initialize()

  const kit = (ctx) => ({
    insert: (text) => existing.getRepository("note").insert({ text }),
    query: (sql) => existing.query(sql),
    nested: (fn) => runInTransaction(fn, { propagation: Propagation.NESTED }),
    own: (fn) => runInTransaction(fn, { propagation: Propagation.REQUIRES_NEW }),
    onCommit: runOnTransactionCommit,
    existing,
    status: (code) => {
      ctx.status = code
    },
  })

  class Actions {}
  for (const [name, action] of Object.entries(actions)) {
    Actions.prototype[name] = function run(ctx) {
      return action(kit(ctx))
    }
    Ctx()(Actions.prototype, name, 0)
    decorate([Get(`/${name}`), Transactional()], Actions.prototype, name)
  }
  decorate([JsonController()], Actions)

  const app = new Koa()
  app.on("error", () => undefined)
  useKoaServer(app, { controllers: [Actions] })
  const server = app.listen(0, "127.0.0.1", () => {
    const close = async () => {
      server.close()
      server.closeAllConnections()
      await existing.destroy()
    }
    runAll({ pg, uri, port: server.address().port, close })
  })
}

main(process.argv[2])
