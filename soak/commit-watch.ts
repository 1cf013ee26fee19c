import type { Observer } from "../spec/support/faulty-network"
import { NO_TRANSFER } from "./bank"

/** A COMMIT that the application sent. */
interface SentCommit {
  readonly transferId: string
  /** whether the application was told what became of it */
  isAnswered: boolean
}

/** Ids as the clients of the run give them; no other text or figure of the application has this form. */
const TRANSFER_ID = /\d+-\d+/g

/** ER_SERVER_SHUTDOWN, ER_QUERY_INTERRUPTED, ER_CONNECTION_KILLED: the thread was ended, which says nothing of the COMMIT. */
const ENDED_THREAD: readonly number[] = [1053, 1317, 1927]

/** Looks at the wire, and knows of which transfers a COMMIT was sent and never answered; reads have none. */
export class CommitWatch {
  readonly #commits: SentCommit[] = []

  constructor(readonly kind: "postgres" | "mysql") {}

  readonly observe = (): Observer => {
    let transferId = NO_TRANSFER
    let open: SentCommit | undefined
    return {
      fromClient: (chunk, statements) => {
        transferId = chunk.toString("latin1").match(TRANSFER_ID)?.at(-1) ?? transferId
        for (const statement of statements) {
          if (/^COMMIT\b/i.test(statement)) {
            open = { transferId, isAnswered: false }
            this.#commits.push(open)
          }
          if (/^(COMMIT|ROLLBACK)$/i.test(statement)) transferId = NO_TRANSFER
        }
      },
      toClient: (chunk) => {
        if (open && this.#isVerdict(chunk)) open.isAnswered = true
        open = undefined
      },
    }
  }

  /** @returns how many COMMITs of each transfer were never answered */
  unanswered(): Map<string, number> {
    const counts = new Map<string, number>()
    for (const { transferId, isAnswered } of this.#commits) {
      if (!isAnswered) counts.set(transferId, (counts.get(transferId) ?? 0) + 1)
    }
    return counts
  }

  #isVerdict(chunk: Buffer): boolean {
    if (this.kind === "mysql") return chunk[4] !== 0xff || !ENDED_THREAD.includes(chunk.readUInt16LE(5))
    const text = chunk.toString("latin1")
    // A backend that is ended says so by an error; one of a server that crashed, by a mere notice.
    return /(COMMIT|ROLLBACK)\0/.test(text) || (text.startsWith("E") && !/V(FATAL|PANIC)\0/.test(text))
  }
}
