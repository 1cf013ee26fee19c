import type { Row, SecondConnection } from "../spec/support/test-database"
import { ACCOUNTS, OPENING_BALANCE } from "./bank"
import type { BankDatabase } from "./plan"

export type { Row, SecondConnection } from "../spec/support/test-database"

/** A database of the run's own, and what can be done to it from outside. */
export interface SoakDatabase {
  readonly kind: BankDatabase
  /** name and version */
  readonly title: string
  readonly uri: string
  /** A connection that shares nothing with the application. */
  open(): Promise<SecondConnection>
  /** Ends connections of the application. @param choice 0 to 1, which one; `undefined` for all @returns how many */
  kill(choice: number | undefined): Promise<number>
  /** Cancels the statement that one connection runs. @returns how many were asked to */
  cancel(choice: number): Promise<number>
  /** Keeps accounts locked for a while. @returns 0 where it did not get the lock */
  lock(choice: number, lastsMs: number): Promise<number>
  restart?(signal: "SIGINT" | "SIGQUIT"): Promise<void>
  /** @returns connections whose transaction is open */
  idleInTransaction(): Promise<number>
  drop(): Promise<void>
}

/** Why a database takes no part in the run. */
export interface SkippedDatabase {
  readonly kind: BankDatabase
  readonly skipReason: string
}

/** @param autoNumber the type of a column that numbers its rows */
export async function createTables(connection: SecondConnection, kind: BankDatabase): Promise<void> {
  const number = {
    sqlite: "integer PRIMARY KEY AUTOINCREMENT",
    postgres: "serial PRIMARY KEY",
    mysql: "int AUTO_INCREMENT PRIMARY KEY",
  }[kind]
  const witness = kind === "mysql" ? "" : "REFERENCES account(id) DEFERRABLE INITIALLY DEFERRED"
  await connection.query("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))")
  await connection.query(
    `CREATE TABLE ledger (number ${number}, transfer_id varchar(60) NOT NULL UNIQUE, from_id int NOT NULL, ` +
      `to_id int NOT NULL, amount int NOT NULL, witness int ${witness})`,
  )
  const rows = Array.from({ length: ACCOUNTS }, (_, index) => `(${index + 1}, ${OPENING_BALANCE})`)
  await connection.query(`INSERT INTO account (id, balance) VALUES ${rows.join(", ")}`)
}

/** @param choice 0 to 1 */
export function choose<T>(list: readonly T[], choice: number): T | undefined {
  return list[Math.floor(choice * list.length)]
}

/** Opens a connection for one use. */
export async function withConnection<T>(
  open: () => Promise<SecondConnection>,
  use: (connection: SecondConnection) => Promise<T>,
): Promise<T> {
  const connection = await open()
  try {
    return await use(connection)
  } finally {
    // It may have been ended from outside meanwhile.
    await connection.close().catch(() => undefined)
  }
}

export function firstNumber(rows: readonly Row[]): number {
  return Number(Object.values(rows[0] ?? {})[0] ?? 0)
}
