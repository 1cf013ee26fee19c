const ROLLBACK_TO = /^\s*rollback\s+(work\s+|transaction\s+)?to\b[^;]*;?\s*$/i

/** `ROLLBACK TO SAVEPOINT` written by hand: the one statement that an aborted transaction still takes. */
export function isRollbackTo(text: string): boolean {
  return ROLLBACK_TO.test(text)
}
