import {
  type DatabaseUris,
  type Effort,
  keyOf,
  type Measurement,
  median,
  openProbe,
  type Probe,
  type Sample,
} from "./measurements"
import type { Goal, Row } from "./rows"

/** Of each measurement its samples, one for each round, in order. */
export type Samples = ReadonlyMap<string, readonly Sample[]>

/** Each measurement once, in the order of the rows, so that what is compared is measured one after the other. */
export function measurementsOf(rows: readonly Row[], more: readonly Measurement[] = []): Measurement[] {
  const wanted = [...rows.flatMap(({ subject, base }) => (base ? [subject, base] : [subject])), ...more]
  return [...new Map(wanted.map((one) => [keyOf(one), one])).values()]
}

/**
 * Takes every measurement once in each round, with fresh servers; every other round goes through them backwards, so that what
 * drifts on the machine hits both sides of a comparison.
 */
export async function runRounds(
  measurements: readonly Measurement[],
  uris: DatabaseUris,
  effort: Effort,
  rounds: number,
  report: (line: string) => void,
): Promise<Samples> {
  return takeRounds(measurements, rounds, report, async (measurement) => {
    const probe = await openProbe(measurement, uris, effort)
    try {
      return await probe.take()
    } finally {
      await probe.close()
    }
  })
}

/** As `runRounds()`, but with the same servers in all rounds: quicker, and blind to what differs from start to start. */
export async function runKeptRounds(
  measurements: readonly Measurement[],
  uris: DatabaseUris,
  effort: Effort,
  rounds: number,
  report: (line: string) => void,
): Promise<Samples> {
  const probes = new Map<Measurement, Probe>()
  try {
    for (const measurement of measurements) probes.set(measurement, await openProbe(measurement, uris, effort))
    return await takeRounds(measurements, rounds, report, (measurement) => (probes.get(measurement) as Probe).take())
  } finally {
    for (const probe of probes.values()) await probe.close()
  }
}

async function takeRounds(
  measurements: readonly Measurement[],
  rounds: number,
  report: (line: string) => void,
  take: (measurement: Measurement) => Promise<Sample>,
): Promise<Samples> {
  const samples = new Map<string, Sample[]>(measurements.map((one) => [keyOf(one), []]))
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? measurements : [...measurements].reverse()
    for (const measurement of order) {
      const sample = await take(measurement)
      const key = keyOf(measurement)
      report(`round ${round + 1} of ${rounds}: ${key}: ${describeSample(sample)}`)
      samples.get(key)?.push(sample)
    }
  }
  return samples
}

/** The median over the rounds of what each round gives; a ratio is taken within its round. */
export function measured({ subject, base }: Row, { metric, as }: Goal, samples: Samples): number {
  const own = samples.get(keyOf(subject)) ?? []
  if (as === "value") return median(own.map((sample) => sample[metric] ?? Number.NaN))
  const others = (base && samples.get(keyOf(base))) ?? []
  return median(
    own.map((sample, round) => {
      const [value, other] = [sample[metric] ?? Number.NaN, others[round]?.[metric] ?? Number.NaN]
      return as === "ratio" ? value / other : value - other
    }),
  )
}

export function isMet({ atMost = Infinity, atLeast = -Infinity }: Goal, value: number): boolean {
  return value <= atMost && value >= atLeast
}

function describeSample(sample: Sample): string {
  return Object.entries(sample)
    .map(([name, value]) => `${name} ${value.toFixed(value < 10 ? 2 : 0)}`)
    .join(", ")
}
