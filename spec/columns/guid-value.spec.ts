import { expect } from "chai"
import { generateGuid, parseGuid } from "../../src/columns/guid-value"
import { InvalidGuidError } from "../../src/errors"

const GUID = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"

const SPELLINGS: readonly string[] = [
  GUID,
  GUID.toUpperCase(),
  `{${GUID}}`,
  `{${GUID.toUpperCase()}}`,
  GUID.replaceAll("-", ""),
  `urn:uuid:${GUID}`,
  `URN:UUID:${GUID.toUpperCase()}`,
]

const NO_GUIDS: readonly unknown[] = [
  "",
  "not-a-guid",
  GUID.slice(1),
  `${GUID}0`,
  GUID.replace("-", ""),
  `{${GUID}`,
  `${GUID}}`,
  ` ${GUID}`,
  `${GUID}\n`,
  `g${GUID.slice(1)}`,
  `${GUID}' OR 1=1`,
  42,
  true,
  null,
  {},
]

describe("parseGuid()", () => {
  for (const spelling of SPELLINGS) {
    it(`canonicalises ${spelling}`, () => expect(parseGuid(spelling)).to.equal(GUID))
  }

  for (const value of NO_GUIDS) {
    it(`refuses ${JSON.stringify(value)} and does not print it`, () => {
      expect(() => parseGuid(value, "User.id"))
        .to.throw(InvalidGuidError, /^User\.id was given a value that is no GUID/)
        .with.property("message")
        .that.satisfies((message: string) => value === "" || typeof value !== "string" || !message.includes(value))
    })
  }
})

describe("generateGuid()", () => {
  it("makes version 4 by default", () => {
    expect(generateGuid()).to.match(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  it("makes version 7 with the time in front", () => {
    const before = Date.now()
    const guid = generateGuid(7)
    expect(guid).to.match(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(Number.parseInt(guid.replace("-", "").slice(0, 12), 16)).to.be.within(before, Date.now() + 1)
  })

  it("makes strictly ascending GUIDs of version 7, also when the counter of a millisecond is full", () => {
    const guids = Array.from({ length: 20_000 }, () => generateGuid(7))
    expect(guids.every((guid, index) => index === 0 || (guids[index - 1] ?? "") < guid)).to.equal(true)
  })
})
