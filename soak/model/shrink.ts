import { bodiesOf, countSteps, type Program, type Step, withBodies } from "./program"

/** A program that shows a difference may take its time for it, one that hangs above all. */
const LONGEST_MS = 40_000
const MOST_TRIES = 500

/**
 * Deletes steps as long as the program still shows a difference.
 * @param fails whether a program does
 */
export async function shrink(program: Program, fails: (program: Program) => Promise<boolean>): Promise<Program> {
  const startedAt = performance.now()
  let smallest = program
  let asked = 0
  for (let hasShrunk = true; hasShrunk; ) {
    hasShrunk = false
    for (const steps of smaller(smallest.steps)) {
      if (asked++ >= MOST_TRIES || performance.now() - startedAt > LONGEST_MS) return smallest
      const candidate = { ...smallest, steps }
      if (!(await fails(candidate))) continue
      smallest = candidate
      hasShrunk = true
      break
    }
  }
  return smallest
}

/** Lists with one step less, or with the steps of a body in place of the step; the greatest cuts first. */
function smaller(steps: readonly Step[]): readonly Step[][] {
  const cuts: Step[][] = []
  for (const [index, step] of steps.entries()) {
    const replaced = (...by: readonly Step[]) => [...steps.slice(0, index), ...by, ...steps.slice(index + 1)]
    cuts.push(replaced())
    const bodies = bodiesOf(step)
    for (const body of bodies) cuts.push(replaced(...body))
    bodies.forEach((body, at) => {
      const others = bodies.filter((_, other) => other !== at)
      if (step.do === "parallel" && others.length > 0) cuts.push(replaced(withBodies(step, others)))
      for (const cut of smaller(body)) {
        cuts.push(
          replaced(
            withBodies(
              step,
              bodies.map((one, other) => (other === at ? cut : one)),
            ),
          ),
        )
      }
    })
    if ("via" in step && step.via !== 0) cuts.push(replaced({ ...step, via: 0 }))
    if ("caught" in step && step.caught) cuts.push(replaced({ ...step, caught: false }))
    if (step.do === "wait" && step.ticks > 1) cuts.push(replaced({ ...step, ticks: step.ticks - 1 }))
  }
  return cuts.sort((one, other) => countSteps(one) - countSteps(other))
}
