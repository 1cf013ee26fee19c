import {
  And,
  Any,
  Between,
  Brackets,
  type EntityManager,
  Equal,
  ILike,
  In,
  IsNull,
  LessThan,
  LessThanOrEqual,
  Like,
  MoreThan,
  MoreThanOrEqual,
  Not,
  Or,
} from "typeorm"
import {
  AuthorSchema,
  CommentSchema,
  Film,
  LabelSchema,
  Medium,
  PageSchema,
  PlaceSchema,
  ShelfSchema,
} from "./read-entities"

type Read = (db: EntityManager) => Promise<unknown>

/** What applications ask TypeORM for, each by the name that the spec shows. */
export const reads: Record<string, Read> = {
  "find() without a condition": (db) => db.find(PageSchema),
  "findOneBy() a key": (db) => db.findOneBy(PageSchema, { id: 1 }),
  "findOneByOrFail()": (db) => db.findOneByOrFail(PageSchema, { id: 1 }),
  "findBy() several columns": (db) => db.findBy(PageSchema, { title: "one", body: "text", status: "draft" }),
  "findBy() alternatives": (db) => db.findBy(PageSchema, [{ title: "one", id: 1 }, { status: "published" }]),
  "findBy() an embedded column": (db) => db.findBy(PageSchema, { counts: { likes: MoreThan(1) } }),
  "Equal() and Not()": (db) => db.findBy(PageSchema, { title: Equal("one"), body: Not("two"), id: Not(Equal(3)) }),
  "In() and Not(In())": (db) => db.findBy(PageSchema, { id: In([1, 2, 3]), title: Not(In(["a", "b"])) }),
  "In() of one": (db) => db.findBy(PageSchema, { id: In([1]) }),
  "Between()": (db) => db.findBy(PageSchema, { id: Between(1, 9), title: Not(Between("x", "z")) }),
  "LessThan() and MoreThan()": (db) => db.findBy(PageSchema, { id: LessThan(9), title: MoreThan("a") }),
  "LessThanOrEqual() and MoreThanOrEqual()": (db) =>
    db.findBy(PageSchema, { id: LessThanOrEqual(9), title: MoreThanOrEqual("a") }),
  "Like() and Not(Like())": (db) => db.findBy(PageSchema, { title: Like("o%"), body: Not(Like("%x")) }),
  "ILike()": (db) => db.findBy(PageSchema, { title: ILike("O%"), body: Not(ILike("%X")) }),
  "IsNull() and Not(IsNull())": (db) => db.findBy(AuthorSchema, { joinedAt: IsNull(), leftAt: Not(IsNull()) }),
  "And() and Or()": (db) =>
    db.findBy(PageSchema, { id: And(MoreThan(0), LessThan(9)), title: Or(Equal("one"), IsNull()) }),
  "a time": (db) => db.findBy(AuthorSchema, { joinedAt: LessThan(new Date(0)) }),
  "select of some columns": (db) => db.find(PageSchema, { select: { id: true, title: true }, where: { id: 1 } }),
  "order, skip and take": (db) =>
    db.find(PageSchema, { order: { title: "ASC", counts: { likes: "DESC" } }, skip: 1, take: 5 }),
  "a soft-deleted table": (db) => db.find(AuthorSchema, { where: { name: "ann" } }),
  "a soft-deleted table, withDeleted": (db) => db.find(AuthorSchema, { withDeleted: true }),
  "a many-to-one relation": (db) => db.find(PageSchema, { relations: { author: true } }),
  "a one-to-many relation": (db) => db.find(AuthorSchema, { relations: { pages: true } }),
  "a many-to-many relation": (db) => db.find(PageSchema, { relations: { labels: true }, where: { id: 1 } }),
  "the other side of a many-to-many relation": (db) => db.find(LabelSchema, { relations: { pages: true } }),
  "relations of relations": (db) =>
    db.find(AuthorSchema, { relations: { pages: { labels: true, comments: { author: true } } } }),
  "an eager relation": (db) => db.find(CommentSchema, { where: { id: 1 } }),
  "an eager relation, not loaded": (db) => db.find(CommentSchema, { loadEagerRelations: false }),
  "a condition on a relation": (db) =>
    db.find(PageSchema, { where: { author: { name: "ann" }, labels: { name: "x" } } }),
  "a relation's key": (db) => db.find(PageSchema, { where: { author: { id: 1 } } }),
  "order by a relation": (db) =>
    db.find(PageSchema, { relations: { author: true }, order: { author: { name: "ASC" } } }),
  "take with a join": (db) => db.find(PageSchema, { relations: { labels: true }, order: { title: "DESC" }, take: 2 }),
  "skip and take with joins": (db) =>
    db.find(PageSchema, {
      relations: { labels: true, author: true },
      where: { status: "draft" },
      order: { author: { name: "ASC" }, id: "DESC" },
      skip: 1,
      take: 2,
    }),
  "take with a join, two keys": (db) => db.find(PlaceSchema, { relations: { visitors: true }, take: 2 }),
  "relations in queries of their own": (db) =>
    db.find(PageSchema, { relations: { labels: true, author: true }, relationLoadStrategy: "query" }),
  "ids of relations": (db) => db.find(PageSchema, { loadRelationIds: true }),
  "count()": (db) => db.count(PageSchema),
  "countBy()": (db) => db.countBy(PageSchema, { status: "draft" }),
  "count() with a relation": (db) => db.count(PageSchema, { where: { labels: { name: "x" } } }),
  "count() with a relation, two keys": (db) => db.count(PlaceSchema, { relations: { visitors: true } }),
  "findAndCount()": (db) => db.findAndCount(PageSchema, { relations: { labels: true }, skip: 1, take: 2 }),
  "exists()": (db) => db.exists(PageSchema, { where: { title: "one" } }),
  "existsBy() a relation": (db) => db.existsBy(PageSchema, { author: { name: "ann" } }),
  "sum(), average(), minimum(), maximum()": async (db) => {
    await db.sum(PlaceSchema, "people", { country: "at" })
    await db.average(PlaceSchema, "people")
    await db.minimum(PlaceSchema, "people")
    await db.maximum(PlaceSchema, "people")
  },
  "a hierarchy's base": (db) => db.find(Medium, { where: { title: "m" } }),
  "a hierarchy's child": (db) => db.find(Film, { where: { minutes: 90 }, relations: { shelf: true } }),
  "a hierarchy's child as a relation": (db) => db.find(ShelfSchema, { relations: { films: true } }),
  "a query builder's joins": (db) =>
    db
      .createQueryBuilder(PageSchema, "page")
      .leftJoinAndSelect("page.author", "author")
      .innerJoin("page.labels", "label", "label.name = :label", { label: "x" })
      .where("page.title = :title", { title: "one" })
      .andWhere(new Brackets((or) => or.where("author.name LIKE :name", { name: "a%" }).orWhere("author.id IS NULL")))
      .orderBy("page.title", "DESC", db.dataSource.options.type === "postgres" ? "NULLS LAST" : undefined)
      .limit(3)
      .getMany(),
  "a join inside a left join": (db) =>
    db
      .createQueryBuilder(PageSchema, "page")
      .leftJoin("page.comments", "comment")
      .innerJoin("comment.author", "author")
      .getMany(),
  "a query builder's groups": (db) =>
    db
      .createQueryBuilder(PageSchema, "page")
      .select("page.status", "status")
      .addSelect("COUNT(page.id)", "pages")
      .groupBy("page.status")
      .getRawMany(),
  "a query builder's distinct rows": (db) =>
    db.createQueryBuilder(PageSchema, "page").select("page.title", "title").distinct(true).getRawMany(),
  "a query builder's EXISTS": (db) =>
    db
      .createQueryBuilder(PageSchema, "page")
      .whereExists(db.createQueryBuilder(CommentSchema, "comment").where("comment.page = page.id"))
      .getMany(),
}

/** PostgreSQL's own. */
export const postgresReads: Record<string, Read> = {
  "Any()": (db) => db.findBy(PageSchema, { id: Any([1, 2]) }),
  "DISTINCT ON": (db) =>
    db.createQueryBuilder(PageSchema, "page").distinctOn(["page.status"]).orderBy("page.status").getMany(),
}
