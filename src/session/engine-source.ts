import type { DataSource } from "typeorm"
import type { Engine } from "../engine/connection"

/** Where a session's connections come from. A session is made before its database is started, and starts it when it begins. */
export interface EngineSource {
  /** its metadata are built, so that queries can be; whether it is connected, is another matter */
  readonly dataSource: DataSource
  /** set once the `DataSource` is initialised */
  readonly engine: Engine | undefined
  /** Initialises the `DataSource`, once for all that ask at the same time. @throws as `SessionMaker.dataSource()` */
  start(): Promise<Engine>
}
