import type { Context } from "koa"
import { CommitOutcomeUnknownError } from "routing-controllers-typeorm"
import { NO_TRANSFER } from "./bank"

/** What the application was told of by `app.on("error")`: how often, by name and code. */
export const reported: Record<string, number> = {}

/** The first errors that were answered with 500 and are none of the handler's own: message, and what caused it. */
export const unforeseen: string[] = []

/** The transfers whose COMMIT was not answered, as the application was told; one is there once for each time. */
export const unknowns: string[] = []

const SAMPLES = 10

export function countReported(error: unknown, ctx?: Context): void {
  const cause = causeOf(error)
  if (error instanceof CommitOutcomeUnknownError || cause instanceof CommitOutcomeUnknownError) {
    const { body } = (ctx?.request ?? {}) as { body?: { id?: string } }
    unknowns.push(body?.id ?? NO_TRANSFER)
    reported.CommitOutcomeUnknownError = (reported.CommitOutcomeUnknownError ?? 0) + 1
    return
  }
  const name = cause instanceof Error ? cause.name : typeof cause
  const code = (cause as { code?: unknown }).code ?? (cause as { driverError?: { code?: unknown } }).driverError?.code
  const key = typeof code === "string" && code !== name ? `${name} ${code}` : name
  reported[key] = (reported[key] ?? 0) + 1
  if ((error as { httpCode?: unknown }).httpCode !== 500 && cause !== error) return
  if (unforeseen.length < SAMPLES) unforeseen.push(chainOf(error))
}

function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? error.cause : error
}

function chainOf(error: unknown): string {
  const names: string[] = []
  for (let link: unknown = error; link instanceof Error && names.length < 4; link = link.cause) {
    const { driverError } = link as { driverError?: Error & { code?: unknown } }
    names.push(
      `${link.name}: ${link.message}${driverError ? ` (${driverError.name} ${String(driverError.code)})` : ""}`,
    )
  }
  return names.join(" <- ").slice(0, 500)
}
