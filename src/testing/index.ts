export { resetContainer } from "./reset-container"
export { sandbox } from "./sandbox"
