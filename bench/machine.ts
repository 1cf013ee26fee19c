import { execFileSync } from "node:child_process"
import { cpus, loadavg, platform, release } from "node:os"
import { repositoryTop } from "../spec/support/sources"
import { describeAffinity } from "./affinity"

/** Before the bench itself puts any load on the machine. */
const loadAtStart = loadavg()[0] ?? 0

/** What the numbers depend on, one line each. */
export function describeMachine(databases: readonly string[]): string[] {
  return [
    `${cpus().length} cores of ${cpus()[0]?.model.trim() ?? "an unknown CPU"}; ${describeAffinity()}; load average ${loadAtStart.toFixed(1)} at the start`,
    `Node ${process.version}, ${platform()} ${release()}`,
    ...databases,
    `commit ${commit()}`,
  ]
}

function commit(): string {
  try {
    const hash = git("rev-parse", "--short=12", "HEAD")
    return git("status", "--porcelain", "--", "src", "bench") === "" ? hash : `${hash}, with changes`
  } catch {
    return "unknown (no git checkout)"
  }
}

function git(...args: string[]): string {
  return execFileSync("git", args, { cwd: repositoryTop, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()
}
