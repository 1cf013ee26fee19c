import type { SessionMaker } from "routing-controllers-typeorm"
import { User } from "./entities/user"

/** Creates the schema and, in an empty database, three users. @returns a user to try with */
export async function seed(maker: SessionMaker): Promise<User> {
  const dataSource = await maker.dataSource()
  await dataSource.synchronize()
  return maker.run(async (session) => {
    const [known] = await session.find(User, { take: 1, order: { name: "ASC" } })
    if (known) return known
    const [ada] = await session.save(User, [{ name: "Ada" }, { name: "Grace" }, { name: "Linus" }])
    return ada as User
  })
}
