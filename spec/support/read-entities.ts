import { type EntityManager, EntitySchema } from "typeorm"

/** Schemas, not decorators: these are nobody else's entities, and an enum is not for every database. */
export interface Author {
  id: number
  name: string
  email: string
  joinedAt: Date
  leftAt: Date | null
  pages: Page[]
}

export interface Page {
  id: number
  title: string
  body: string
  status: string
  counts: { likes: number }
  author: Author | null
  labels: Label[]
  comments: Comment[]
}

export interface Label {
  id: number
  name: string
  pages: Page[]
}

export interface Comment {
  id: number
  text: string
  page: Page
  author: Author | null
}

export interface Place {
  country: string
  city: string
  people: number
  visitors: Author[]
}

export class Medium {
  id!: number
  title!: string
}

export class Film extends Medium {
  minutes!: number
  shelf!: Shelf | null
}

export interface Shelf {
  id: number
  films: Film[]
}

const id = { type: "int", primary: true, generated: "increment" } as const
const varchar = { type: "varchar" } as const
const time = { type: "timestamp", precision: 0 } as const

export const AuthorSchema = new EntitySchema<Author>({
  name: "Author",
  tableName: "author",
  columns: {
    id,
    name: varchar,
    email: { type: "text" },
    joinedAt: { ...time, nullable: true },
    leftAt: { ...time, deleteDate: true, nullable: true },
  },
  relations: { pages: { type: "one-to-many", target: "Page", inverseSide: "author" } },
})

export const PageSchema = new EntitySchema<Page>({
  name: "Page",
  tableName: "page",
  columns: {
    id,
    title: varchar,
    body: { type: "text" },
    status: { type: "enum", enum: ["draft", "published"], default: "draft" },
  },
  embeddeds: {
    counts: {
      schema: new EntitySchema<Page["counts"]>({ name: "Counts", columns: { likes: { type: "int", default: 0 } } }),
    },
  },
  relations: {
    author: { type: "many-to-one", target: "Author", inverseSide: "pages", nullable: true },
    labels: { type: "many-to-many", target: "Label", inverseSide: "pages", joinTable: true },
    comments: { type: "one-to-many", target: "Comment", inverseSide: "page" },
  },
})

export const LabelSchema = new EntitySchema<Label>({
  name: "Label",
  tableName: "label",
  columns: { id, name: varchar },
  relations: { pages: { type: "many-to-many", target: "Page", inverseSide: "labels" } },
})

export const CommentSchema = new EntitySchema<Comment>({
  name: "Comment",
  tableName: "comment",
  columns: { id, text: varchar },
  relations: {
    page: { type: "many-to-one", target: "Page", inverseSide: "comments" },
    author: { type: "many-to-one", target: "Author", eager: true, nullable: true },
  },
})

export const PlaceSchema = new EntitySchema<Place>({
  name: "Place",
  tableName: "place",
  columns: {
    country: { type: "varchar", length: 20, primary: true },
    city: { type: "varchar", length: 20, primary: true },
    people: { type: "int" },
  },
  relations: { visitors: { type: "many-to-many", target: "Author", joinTable: true } },
})

const MediumSchema = new EntitySchema<Medium>({
  name: "Medium",
  target: Medium,
  tableName: "medium",
  columns: { id, title: varchar },
  inheritance: { pattern: "STI", column: { name: "kind", type: "varchar" } },
})

const FilmSchema = new EntitySchema<Film>({
  name: "Film",
  target: Film,
  type: "entity-child",
  columns: { minutes: { type: "int", nullable: true } },
  relations: { shelf: { type: "many-to-one", target: "Shelf", inverseSide: "films", nullable: true } },
})

export const ShelfSchema = new EntitySchema<Shelf>({
  name: "Shelf",
  tableName: "shelf",
  columns: { id },
  relations: { films: { type: "one-to-many", target: "Film", inverseSide: "shelf" } },
})

export const readEntities = [
  AuthorSchema,
  PageSchema,
  LabelSchema,
  CommentSchema,
  PlaceSchema,
  MediumSchema,
  FilmSchema,
  ShelfSchema,
]

/** Two rows of each, so that what a read's answer makes TypeORM ask next is asked, too. */
export async function addReadRows(db: EntityManager): Promise<void> {
  const labels = await db.save(LabelSchema, [{ name: "x" }, { name: "y" }])
  const authors = await db.save(AuthorSchema, [
    { name: "ann", email: "a@example.org" },
    { name: "bob", email: "b@example.org" },
  ])
  for (const author of authors) {
    const page = { title: "one", body: "text", author, labels, counts: { likes: 2 } }
    const { id } = await db.save(PageSchema, page)
    await db.save(CommentSchema, { text: "good", page: { id }, author })
    await db.save(PlaceSchema, { country: "at", city: author.name, people: 3, visitors: authors })
  }
  const shelf = await db.save(ShelfSchema, { films: [] })
  await db.save(Film, { title: "m", minutes: 90, shelf: { id: shelf.id } })
}
