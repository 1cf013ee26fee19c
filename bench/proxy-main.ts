/** Child process of the bench: `proxy-main.js <target URI> <ms one way>`. */
import { startDelayingProxy } from "./delaying-proxy"
import type { ProxyQuestion } from "./proxy-process"

async function main(): Promise<void> {
  const [target = "", delayMs = "0"] = process.argv.slice(2)
  const proxy = await startDelayingProxy(new URL(target), Number(delayMs))
  process.on("message", (question: ProxyQuestion) => {
    if (question === "stop") process.exit()
    process.send?.(proxy.takeWrites())
  })
  process.once("disconnect", () => process.exit())
  process.send?.(proxy.port)
}

void main()
