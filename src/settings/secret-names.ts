const SECRET_NAME = /pass|pwd|secret|token|credential|private|(^|[._-])(api|access|ssl|tls|encryption)?[._-]?key$/i

/** Whether an option, variable or query parameter of this name holds what nobody may read in a log. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name) || /(api|access|ssl|encryption|private)key/i.test(name)
}

/** What stands in place of a secret. */
export const REDACTED = "***"
