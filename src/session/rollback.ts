import type { Connection } from "../engine/connection"
import type { ErrorSink } from "./hooks"

/** Rolls back what is open on the connection. @returns whether it is clean; never rejects, what fails is reported */
export async function hasRolledBack(connection: Connection, sink: ErrorSink): Promise<boolean> {
  try {
    await connection.rollback()
    return true
  } catch (error) {
    sink.report(error)
    return false
  }
}
