/** What went otherwise than the contract says. */
export interface Difference {
  readonly kind:
    | "content"
    | "read"
    | "order"
    | "failure"
    | "accepted"
    | "refused"
    | "end"
    | "hook"
    | "left over"
    | "hung"
    | "unhandled"
  readonly text: string
}
