const { createRequire } = require("node:module")
const { join } = require("node:path")

const fromRoot = createRequire(join(__dirname, "..", "..", "..", "package.json"))
fromRoot("reflect-metadata")
const Koa = fromRoot("koa")
const pg = fromRoot("pg")
const { Ctx, Get, JsonController } = fromRoot("routing-controllers")
const { Container } = fromRoot("typedi")
const { EntitySchema } = fromRoot("typeorm")
const { currentSession, SessionMaker, useKoaServer } = fromRoot("routing-controllers-typeorm")
const { actions, decorate, runAll } = require("./common.cjs")

const Note = new EntitySchema({
  name: "note",
  columns: { id: { type: Number, primary: true, generated: "increment" }, text: { type: String } },
})

async function main(uri) {
  const maker = new SessionMaker(uri, { entities: [Note] })
  const existing = maker.ambient(await maker.dataSource())
  Container.set(SessionMaker, maker)

  const kit = (ctx) => ({
    insert: (text) => currentSession().getRepository("note").insert({ text }),
    query: (sql) => currentSession().query(sql),
    nested: (fn) => currentSession().transaction(fn),
    own: (fn) => maker.run(fn),
    onCommit: (fn) => currentSession().afterCommit(fn),
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
    decorate([Get(`/${name}`)], Actions.prototype, name)
  }
  decorate([JsonController()], Actions)

  const app = new Koa()
  app.on("error", () => undefined)
  useKoaServer(app, { controllers: [Actions], sessions: { ambient: true } })
  const server = app.listen(0, "127.0.0.1", () => {
    const close = async () => {
      server.close()
      server.closeAllConnections()
      await maker.close()
    }
    runAll({ pg, uri, port: server.address().port, close })
  })
}

main(process.argv[2])
