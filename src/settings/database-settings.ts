import { IsNotEmpty, IsString } from "class-validator"
import { Settings } from "./settings"

/**
 * The setting of the default database: `databaseUri` from `DATABASE_URI`, such as `sqlite:///./app.db`. A subclass may
 * give it a default, or build it from separate fields in a getter; `DATABASE_URI` is not asked for then.
 * @example
 * class ServerSettings extends DatabaseSettings {
 *   @IsString() host!: string
 *   get databaseUri(): string {
 *     return `postgres://${this.host}/app`
 *   }
 * }
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: TypeScript lets a getter override a property only if that is declared in an interface; a field would also hide the getter at run time
export class DatabaseSettings extends Settings {}

export interface DatabaseSettings {
  /** As `parseDatabaseUri()` takes it. */
  databaseUri: string
}

const message = "must be a database URI such as sqlite:///./app.db"
IsString({ message })(DatabaseSettings.prototype, "databaseUri")
IsNotEmpty({ message })(DatabaseSettings.prototype, "databaseUri")
