import type { Context } from "koa"
import onFinished from "on-finished"
import { isScoped, type RequestEnd } from "./request-context"

const WATCH = Symbol("routing-controllers-typeorm request end")
const CHAIN_ENDED = Symbol("routing-controllers-typeorm chain ended")

interface WatchedContext extends Context {
  [WATCH]?: Watch
  [CHAIN_ENDED]?: true
}

interface Watch {
  readonly ends: RequestEnd[]
  isGone: boolean
  gone: () => void
}

/**
 * Sees to `end` once both have happened: the body is flushed or the connection is gone, and every middleware has ended.
 * One is called after another, in the order of registration. A request that registers none is not watched.
 */
export function whenRequestEnds(ctx: Context, end: RequestEnd): void {
  // What is first asked for after the end, by code that nobody waited for, is over before it begins.
  if (hasChainEnded(ctx) && onFinished.isFinished(ctx.res)) {
    end.gone?.()
    void end.end()
    return
  }
  const watch = watchOf(ctx)
  watch.ends.push(end)
  if (watch.isGone) end.gone?.()
}

/** Called by `sessions()` when the middleware after it have ended. */
export function markChainEnded(ctx: Context): void {
  const watched = ctx as WatchedContext
  watched[CHAIN_ENDED] = true
  const watch = watched[WATCH]
  if (watch === undefined) return
  if (watch.isGone) endAll(ctx, watch)
  // A handler that answers by itself may take the socket away from the response, which then says nothing.
  else if (ctx.respond === false) onFinished(ctx.res, watch.gone)
}

function watchOf(ctx: Context): Watch {
  const watched = ctx as WatchedContext
  if (watched[WATCH]) return watched[WATCH]
  const watch: Watch = { ends: [], isGone: false, gone: () => markGone(ctx, watch) }
  watched[WATCH] = watch
  if (onFinished.isFinished(ctx.res)) onFinished(ctx.res, watch.gone)
  // Said when it is flushed, too; `onFinished()` would listen to the socket as well, for each request anew.
  else ctx.res.once("close", watch.gone)
  return watch
}

function markGone(ctx: Context, watch: Watch): void {
  if (watch.isGone) return
  watch.isGone = true
  for (const end of watch.ends) end.gone?.()
  endAll(ctx, watch)
}

function endAll(ctx: Context, watch: Watch): void {
  if (hasChainEnded(ctx)) callAll(watch)
}

/** Without `sessions()` nobody tells. */
function hasChainEnded(ctx: Context): boolean {
  return !isScoped(ctx) || (ctx as WatchedContext)[CHAIN_ENDED] === true
}

function callAll(watch: Watch): void {
  for (let next = watch.ends.shift(); next; next = watch.ends.shift()) {
    const ending = next.end()
    if (ending === undefined) continue
    void ending.then(() => callAll(watch))
    return
  }
}
