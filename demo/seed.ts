import type { SessionMaker } from "routing-controllers-typeorm"
import { User } from "./entities/user"

/**
 * Creates the table where it is missing and, in an empty one, three users. A table that is there is left as it is: it may
 * be that of another application.
 * @returns a user to try with
 */
export async function seed(maker: SessionMaker): Promise<User> {
  const dataSource = await maker.dataSource()
  const { tablePath } = dataSource.getMetadata(User)
  const isThere = await maker.run((session) => session.queryRunner?.hasTable(tablePath))
  if (!isThere) await dataSource.synchronize()
  return maker.run(async (session) => {
    const [known] = await session.find(User, { take: 1, order: { name: "ASC" } })
    if (known) return known
    const [ada] = await session.save(User, [{ name: "Ada" }, { name: "Grace" }, { name: "Linus" }])
    return ada as User
  })
}
