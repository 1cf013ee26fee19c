/** Counts of one maker's transactions since it was made. */
export interface Tally {
  committed: number
  rolledBack: number
  /** commits that the database refused, and transactions whose connection was lost */
  failed: number
  /** statements that came after the end of their session */
  refused: number
}
