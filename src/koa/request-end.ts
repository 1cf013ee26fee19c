import type { Context } from "koa"
import onFinished from "on-finished"
import { isScoped } from "./request-context"

const WATCH = Symbol("routing-controllers-typeorm request end")
const CHAIN_ENDED = Symbol("routing-controllers-typeorm chain ended")

interface WatchedContext extends Context {
  [WATCH]?: Watch
  [CHAIN_ENDED]?: true
}

interface Watch {
  readonly onGone: (() => void)[]
  readonly ends: (() => Promise<void>)[]
  isGone: boolean
}

/**
 * Calls `end` once both have happened: the body is flushed or the connection is gone, and every middleware has ended.
 * One is called after another, in the order of registration. A request that registers none is not watched.
 * @param end never rejects
 * @param onGone called as soon as the body is flushed or the connection is gone
 */
export function whenRequestEnds(ctx: Context, end: () => Promise<void>, onGone?: () => void): void {
  // What is first asked for after the end, by code that nobody waited for, is over before it begins.
  if (hasChainEnded(ctx) && onFinished.isFinished(ctx.res)) {
    onGone?.()
    void end()
    return
  }
  const watch = watchOf(ctx)
  watch.ends.push(end)
  if (!watch.isGone) {
    if (onGone) watch.onGone.push(onGone)
  } else onGone?.()
}

/** Called by `sessions()` when the middleware after it have ended. */
export function markChainEnded(ctx: Context): void {
  const watched = ctx as WatchedContext
  watched[CHAIN_ENDED] = true
  if (watched[WATCH]?.isGone) endAll(ctx, watched[WATCH])
}

function watchOf(ctx: Context): Watch {
  const watched = ctx as WatchedContext
  if (watched[WATCH]) return watched[WATCH]
  const watch: Watch = { onGone: [], ends: [], isGone: false }
  watched[WATCH] = watch
  onFinished(ctx.res, () => {
    watch.isGone = true
    for (const onGone of watch.onGone) onGone()
    endAll(ctx, watch)
  })
  return watch
}

function endAll(ctx: Context, watch: Watch): void {
  if (hasChainEnded(ctx)) void callAll(watch)
}

/** Without `sessions()` nobody tells. */
function hasChainEnded(ctx: Context): boolean {
  return !isScoped(ctx) || (ctx as WatchedContext)[CHAIN_ENDED] === true
}

async function callAll({ ends }: Watch): Promise<void> {
  for (let end = ends.shift(); end; end = ends.shift()) await end()
}
