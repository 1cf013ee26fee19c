const POSTGRES =
  /\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([A-Za-z_]\w*)?\$[\s\S]*?\$\1\$|--[^\n]*|\/\*[\s\S]*?\*\//g
const MYSQL = /'(?:[^'\\]|\\[\s\S]|'')*'|"(?:[^"\\]|\\[\s\S]|"")*"|`[^`]*`|--\s[^\n]*|#[^\n]*|\/\*(?!M?!)[\s\S]*?\*\//g
const SQLITE = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?\*\//g
const DIALECTS = { postgres: POSTGRES, mysql: MYSQL, sqlite: SQLITE }

/**
 * The statements of a text without what only looks like SQL: comments become a blank, and quoted texts and names an empty name.
 * What MySQL carries out although it stands in a comment stays.
 */
export function bareStatements(text: string, dialect: keyof typeof DIALECTS): string[] {
  const bare = text.replace(DIALECTS[dialect], (found) => (/^(?:--|#|\/\*)/.test(found) ? " " : '""'))
  return bare
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "")
}
