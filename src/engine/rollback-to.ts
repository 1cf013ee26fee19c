const ROLLBACK_TO = /^\s*rollback\s+(work\s+|transaction\s+)?to\b[^;]*;?\s*$/i
/** Comments that hold no quote, which might be a comment's beginning within a text. */
const COMMENTS = /\/\*(?!M?!)[^'"`$]*?\*\/|--\s[^'"`$\n]*(?=\n|$)/g

/** `ROLLBACK TO SAVEPOINT` written by hand: the one statement that an aborted transaction still takes. */
export function isRollbackTo(text: string): boolean {
  return ROLLBACK_TO.test(text) || (text.length < 1_000 && ROLLBACK_TO.test(text.replace(COMMENTS, " ")))
}
