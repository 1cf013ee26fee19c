export { resetContainer } from "./reset-container"
