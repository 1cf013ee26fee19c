/** Compiles, or does not: whether this package's list of TypeORM's options is TypeORM's own. */
import type { DataSourceOverrides } from "../../src"
import type { DATA_SOURCE_OPTION_NAMES } from "../../src/settings/data-source-option-names"

type Listed = (typeof DATA_SOURCE_OPTION_NAMES)[number]
type Known = keyof DataSourceOverrides

/** An error here names the options that the list lacks. */
export const missing: Record<Exclude<Known, Listed>, never> = {}
/** An error here names the options that TypeORM does not have any more. */
export const tooMany: Record<Exclude<Listed, Known>, never> = {}
