import { join } from "node:path"
import { IsInt, Max, Min } from "class-validator"
import { DatabaseSettings } from "routing-controllers-typeorm"

export const DATA_FOLDER = join(__dirname, "..", "..", "demo", "data")
const DEFAULT_FILE = join(DATA_FOLDER, "demo.db")

export const DEFAULT_DATABASE_URI = `sqlite:///${encodeURI(DEFAULT_FILE).replace(/[?#]/g, encodeURIComponent)}`

/** `DATABASE_URI` and `PORT`; both have a default, so that nothing has to be set. */
export class DemoSettings extends DatabaseSettings {
  override databaseUri = DEFAULT_DATABASE_URI

  /** 0 takes a free one */
  @IsInt()
  @Min(0)
  @Max(65_535)
  port: number = 3000
}
