export {
  GUID_SERVER_DEFAULT_POSTGRES,
  Guid,
  type GuidOptions,
  PrimaryGuid,
  type PrimaryGuidOptions,
} from "./columns/guid"
export { setupGuidsPostgres } from "./columns/setup-guids-postgres"
export { Session } from "./decorators/session"
export { buildDataSource, createDataSource, type DataSourceOverrides } from "./engine/data-source"
export {
  AcquireTimeoutError,
  CommitOutcomeUnknownError,
  DatabaseUnavailableError,
  DatabaseUriError,
  DriverNotInstalledError,
  InvalidGuidError,
  PartialCommitError,
  SessionClosedError,
  SessionError,
  SessionMakerClosedError,
  SessionOptionsError,
  SessionRuntimeError,
  SessionScopeError,
  SessionStateError,
  SessionUsageError,
  SettingsError,
  TransactionAbortedError,
  TransactionHeldError,
} from "./errors"
export { getSession, sessions } from "./koa/sessions"
export type { SessionsOptions } from "./koa/sessions-options"
export { type ShutdownOptions, shutdown } from "./koa/shutdown"
export { createKoaServer, type SessionServerOptions, useKoaServer } from "./koa/use-koa-server"
export { currentSession, tryCurrentSession } from "./request/current-session"
export type { RequestSessionOptions } from "./request/session-request"
export { contextSession } from "./session/context-session"
export type { CommitTiming, SessionOptions } from "./session/options"
export {
  type Database,
  type RunOptions,
  SessionMaker,
  type SessionMakerOptions,
  type SessionMakerStats,
} from "./session/session-maker"
export { DatabaseSettings } from "./settings/database-settings"
export { Settings } from "./settings/settings"
export { InjectSession } from "./typedi/inject-session"
export { RequestContainer } from "./typedi/request-container"
