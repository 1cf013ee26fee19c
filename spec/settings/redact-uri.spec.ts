import "reflect-metadata"
import { inspect } from "node:util"
import { expect } from "chai"
import { DatabaseUriError } from "../../src/errors"
import { parseDatabaseUri } from "../../src/settings/database-uri"
import { redactUri } from "../../src/settings/redact-uri"

const SECRET = "Sw0rdf1sh"
/** Two halves, so that what is left of a password cut in the middle is seen too. */
const NASTY = [
  "@",
  "/",
  "#",
  "%",
  ":",
  "?",
  "&",
  "=",
  " ",
  "\n",
  "\\",
  "'",
  '"',
  "[",
  "]",
  "://",
  "%zz",
  "@/",
  "?x@",
  "é",
]

function passwords(): string[] {
  const made: string[] = []
  for (const one of NASTY) {
    for (const two of ["", "@", "/", "?", ":", "&", "%"])
      made.push(`${SECRET}${one}${two}${SECRET}`, `${one}${SECRET}${two}${SECRET}`)
  }
  return made
}

function messageOf(uri: string): string {
  let text = ""
  try {
    text = inspect(parseDatabaseUri(uri), { depth: 10 })
  } catch (error) {
    expect(error).to.be.instanceOf(DatabaseUriError)
    text = inspect(error, { depth: 10 })
  }
  return text
}

describe("redactUri()", () => {
  const examples: Record<string, string> = {
    "postgres://u:hunter2@h:5432/d": "postgres://u:***@h:5432/d",
    "postgres://u@h/d": "postgres://u@h/d",
    "postgres://h:5432/d": "postgres://h:5432/d",
    "postgres://u:p@a/ss@h/d": "postgres://u:***@h/d",
    "postgres://u:hunter2/d": "postgres://u:***/d",
    "postgres://[::1]:5432/d": "postgres://[::1]:5432/d",
    "postgres://h/d?password=hunter2&sslmode=require": "postgres://h/d?password=***&sslmode=require",
    "postgres://h/d?sslpassword=a&b&Token=c": "postgres://h/d?sslpassword=***&***&Token=***",
    "postgres://h/d?pass%77ord=hunter2": "postgres://h/d?pass%77ord=***",
    "sqlite:///./app.db": "sqlite:///./app.db",
    "sqlite:////var/app.db": "sqlite:////var/app.db",
    "host=h password='hun ter2' user=u": "host=h password=*** user=u",
    "u:hunter2@h/d": "u:***@h/d",
    "": "",
  }
  for (const [uri, redacted] of Object.entries(examples)) {
    it(`shows ${JSON.stringify(uri)} as ${JSON.stringify(redacted)}`, () => expect(redactUri(uri)).to.equal(redacted))
  }

  it("never throws and never shows what is no text", () => {
    expect(redactUri(undefined as unknown as string)).to.equal("***")
  })
})

describe("Secrets of a database URI", () => {
  for (const encode of [false, true]) {
    it(`are nowhere in redactUri(), errors or inspect(), ${encode ? "percent-encoded" : "written as they are"}`, () => {
      for (const raw of passwords()) {
        const password = encode ? encodeURIComponent(raw) : raw
        for (const before of [
          "postgres://u:",
          "mysql://u:",
          "nosuch://u:",
          "u:",
          "sqlite://u:",
          "postgres//u:",
          "://u:",
        ]) {
          for (const after of ["@h:5432/d", "@h/d?x=1", "@h", "@", "@[::1/d"]) {
            const uri = before + password + after
            expect(redactUri(uri), uri).not.to.include(SECRET)
            expect(messageOf(uri), uri).not.to.include(SECRET)
          }
        }
      }
    })
  }

  it("are nowhere when they come as query parameters", () => {
    for (const name of ["password", "sslpassword", "token", "passfile", "api_key", "apiKey", "clientSecret", "pwd"]) {
      for (const raw of passwords()) {
        const uri = `postgres://u@h/d?a=1&${name}=${encodeURIComponent(raw)}&z=2`
        expect(redactUri(uri), uri).not.to.include(SECRET)
        expect(messageOf(uri), uri).not.to.include(SECRET)
      }
    }
  })
})
