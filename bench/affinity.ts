import { execFileSync } from "node:child_process"
import { availableParallelism } from "node:os"

/** One core for the servers and the rest for whoever loads them, where there are several and `taskset` is installed. */
const canPin = availableParallelism() > 1 && hasTaskset()

function hasTaskset(): boolean {
  try {
    execFileSync("taskset", ["--version"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

/** Keeps this process, and what it starts from now on, off the servers' core. */
export function leaveServersCore(): void {
  if (!canPin) return
  const last = availableParallelism() - 1
  execFileSync("taskset", ["-a", "-c", "-p", last === 1 ? "1" : `1-${last}`, String(process.pid)], { stdio: "ignore" })
}

/** The command that runs Node with these arguments on the servers' core. */
export function onServersCore(args: readonly string[]): readonly [command: string, args: readonly string[]] {
  return canPin ? ["taskset", ["-c", "0", process.execPath, ...args]] : [process.execPath, args]
}

/** For the report. */
export function describeAffinity(): string {
  return canPin
    ? "servers on core 0, load and database on the others"
    : "servers, load and database share all cores (no taskset, or one core only)"
}
