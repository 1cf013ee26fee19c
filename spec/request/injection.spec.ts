import { expect } from "chai"
import { Container, Inject, Service, Token } from "typedi"
import type { Session } from "../../src/decorators/session"
import { mayBeGivenSession } from "../../src/request/injection"
import { InjectSession } from "../../src/typedi/inject-session"

@Service()
class Rows {
  constructor(@InjectSession() readonly db: Session) {}
}

class Inherited extends Rows {}

@Service()
class Parent {
  constructor(
    readonly name: string,
    readonly rows: Rows,
  ) {}
}

@Service()
class Plain {
  constructor(
    readonly size: number,
    readonly on: boolean,
  ) {}
}

@Service()
class PlainParent {
  constructor(readonly plain: Plain) {}
}

@Service({ global: true })
class Single {}

@Service()
class OfSingle {
  constructor(readonly single: Single) {}
}

@Service({ factory: () => new Made() })
class Made {}

@Service()
class OfMade {
  constructor(readonly made: Made) {}
}

@Service()
class Circle {
  @Inject(() => Plain)
  readonly plain!: unknown
  constructor(readonly other: PlainParent) {}
}

class Unregistered {}

@Service()
class OfUnregistered {
  constructor(readonly unregistered: Unregistered) {}
}

const Some = new Token<object>("some")

@Service()
class OfToken {
  constructor(@Inject(Some) readonly some: object) {}
}

describe("mayBeGivenSession()", () => {
  const yes = { Rows, Inherited, Parent, OfMade, OfUnregistered, OfToken, Circle }
  for (const [name, one] of Object.entries(yes)) {
    it(`is true for ${name}`, () => {
      expect(mayBeGivenSession([one])).to.equal(true)
    })
  }

  for (const [name, one] of Object.entries({ Plain, PlainParent, OfSingle, Single })) {
    it(`is false for ${name}`, () => {
      expect(mayBeGivenSession([one])).to.equal(false)
    })
  }

  it("looks at each of several classes, and at what was set in the place of one", () => {
    expect(mayBeGivenSession([Plain, PlainParent])).to.equal(false)
    expect(mayBeGivenSession([Plain, Parent])).to.equal(true)
    Container.set({ id: Plain, factory: () => new Rows({} as Session) })
    try {
      expect(mayBeGivenSession([PlainParent])).to.equal(true)
    } finally {
      Container.set({ id: Plain, type: Plain })
    }
  })
})
