import { connectionScenarios } from "./connection-scenarios"
import { requestScenarios } from "./request-scenarios"
import type { Scenario } from "./scenario"

export type { Scenario } from "./scenario"

export const scenarios: Readonly<Record<string, Scenario>> = { ...connectionScenarios, ...requestScenarios }
