import { Random } from "../random"
import { FAILURES, type Program, READS, type Step, type TableName, WRITES } from "./program"

/** What a program may be made of; each can be left out, to look at the others alone. */
export const FAMILIES = [
  "nested",
  "outer",
  "kept",
  "by-hand",
  "left-open",
  "parallel",
  "unawaited",
  "failures",
  "throws",
  "ends",
  "close",
  "raw-commit",
  "hooks",
  "reads",
  "kills",
] as const
export type Family = (typeof FAMILIES)[number]

export interface GenerateOptions {
  readonly kind: "sqlite" | "postgres" | "mysql"
  readonly families: ReadonlySet<Family>
}

const KEYS = 4
const DEEPEST = 4
const MOST_STEPS = 16

/** @returns the program of this seed; the same for the same options */
export function generateProgram(seed: string, options: GenerateOptions): Program {
  return new Generator(new Random(seed), options).program()
}

/** Where a list of steps stands. */
interface Place {
  /** variables around it that it may use, its own included */
  readonly variables: number
  readonly depth: number
  /** within a block, which ends by itself */
  readonly isInBlock: boolean
  /** within one that was begun by hand */
  readonly isByHand?: boolean
}

class Generator {
  #steps = 0
  #budget: number
  readonly #has: (family: Family) => boolean

  constructor(
    private readonly random: Random,
    private readonly options: GenerateOptions,
  ) {
    this.#budget = random.integer(2, MOST_STEPS)
    this.#has = (family) => options.families.has(family)
  }

  program(): Program {
    const opened = this.random.chance(0.6) ? "run" : "open"
    const steps: Step[] = []
    while (this.#budget > 0) steps.push(this.#step({ variables: 1, depth: 0, isInBlock: false }))
    if (opened === "open" && this.random.chance(0.8)) {
      steps.push({ do: "end", id: this.#id(), verb: "commit", via: 0, caught: this.random.chance(0.3) })
    }
    return { opened, steps }
  }

  #steplist(place: Place, most: number): Step[] {
    const length = this.random.integer(1, most)
    const steps: Step[] = []
    while (steps.length < length && (this.#budget > 0 || steps.length === 0)) steps.push(this.#step(place))
    return steps
  }

  #step(place: Place): Step {
    this.#budget--
    const canNest = place.depth < DEEPEST && this.#budget > 0
    const weight = (family: Family, value: number) => (this.#has(family) ? value : 0)
    const nested = (family: Family, value: number) => (canNest ? weight(family, value) : 0)
    const kind = this.random.pick({
      write: 34,
      read: weight("reads", 8),
      fail: weight("failures", 5),
      throw: weight("throws", place.depth > 0 ? 4 : 1),
      hook: weight("hooks", 8),
      commit: weight("ends", place.isInBlock ? 1 : 4),
      rollback: weight("ends", place.isInBlock ? 1 : 2),
      close: weight("close", 1),
      raw: weight("raw-commit", 2),
      wait: weight("unawaited", 3) + weight("parallel", 2),
      kill: weight("kills", 3),
      block: nested("nested", 13),
      hand: nested("by-hand", 5),
      try: canNest ? weight("throws", 2) : 0,
      parallel: nested("parallel", 6),
      loose: nested("unawaited", 6),
    })
    switch (kind) {
      case "write":
      case "read":
      case "fail":
      case "raw":
        return this.#statement(kind, place)
      case "commit":
      case "rollback":
      case "close":
        return { do: "end", id: this.#id(), verb: kind, ...this.#call(place, 0.4) }
      case "hook":
        return {
          do: "hook",
          id: this.#id(),
          via: this.#via(place),
          on: this.random.pick({ commit: 3, rollback: 2, completion: 2 }),
        }
      case "throw":
        return { do: "throw", id: this.#id() }
      case "wait":
        return { do: "wait", ticks: this.random.integer(1, 8), isLong: this.random.chance(0.5) }
      case "kill":
        return { do: "kill", isAwaited: this.random.chance(0.5) }
      default:
        return this.#compound(kind, place)
    }
  }

  #statement(kind: "write" | "read" | "fail" | "raw", place: Place): Step {
    const id = this.#id()
    const table: TableName = this.random.chance(0.7) ? "a" : "b"
    switch (kind) {
      case "write":
        return {
          do: "write",
          id,
          kind: this.#one(WRITES),
          table,
          key: this.random.integer(1, KEYS),
          ...this.#call(place, this.#has("failures") ? 0.2 : 0),
        }
      case "read":
        return { do: "read", id, kind: this.#one(READS), table, ...this.#call(place, 0.1) }
      case "fail":
        return { do: "fail", id, kind: this.#one(FAILURES), ...this.#call(place, 0.6) }
      case "raw": {
        const verb = this.random.pick({ COMMIT: 3, ROLLBACK: 2, TRUNCATE: this.options.kind === "mysql" ? 2 : 0 })
        return { do: "raw", id, verb, ...this.#call(place, 0.3) }
      }
    }
  }

  #compound(kind: "block" | "hand" | "try" | "parallel" | "loose", place: Place): Step {
    const inside = { ...place, depth: place.depth + 1 }
    switch (kind) {
      case "block": {
        const id = this.#id()
        const call = this.#call(place, 0.6)
        const variables = place.variables + 1
        return { do: "block", id, ...call, body: this.#steplist({ ...inside, variables, isInBlock: true }, 5) }
      }
      case "hand": {
        const id = this.#id()
        const call = this.#call(place, 0.6, false)
        // Of what is outside, code in it uses no variable: it would wait for an end that it is to bring about itself.
        const body = this.#steplist({ ...inside, variables: 1, isInBlock: true, isByHand: true }, 4)
        // With "commit" it stays open where the body throws.
        const open = this.#has("left-open") ? 1 : 0
        const end = this.random.pick({ repair: 6, rollback: 3, commit: 2 * open, open })
        return { do: "hand", id, ...call, end, body }
      }
      case "try":
        return { do: "try", body: this.#steplist(inside, 4) }
      case "parallel": {
        const branches = Array.from({ length: this.random.integer(2, 3) }, () => this.#steplist(inside, 3))
        return { do: "parallel", isSettled: this.random.chance(0.5), branches }
      }
      case "loose": {
        const ticks = this.random.integer(0, 8)
        const wait: Step[] = ticks === 0 ? [] : [{ do: "wait", ticks, isLong: this.random.chance(0.5) }]
        return { do: "loose", body: [...wait, ...this.#steplist(inside, 3)] }
      }
    }
  }

  #call(place: Place, caught: number, mayBeKept = true): { via: number; caught: boolean } {
    return { via: this.#via(place, mayBeKept), caught: this.random.chance(caught) }
  }

  #via({ variables, isByHand }: Place, mayBeKept = true): number {
    if (mayBeKept && !isByHand && this.#has("kept") && this.random.chance(0.04)) return -this.random.integer(1, 2)
    if (!this.#has("outer") || variables === 1 || this.random.chance(0.7)) return 0
    return this.random.integer(1, variables - 1)
  }

  #one<T>(list: readonly T[]): T {
    return list[this.random.integer(0, list.length - 1)] as T
  }

  #id(): number {
    return ++this.#steps
  }
}
