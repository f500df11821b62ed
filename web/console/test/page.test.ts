import { describe, expect, it } from 'vitest'
import { checkJSON, names, preview } from '../src/payload'
import { href, parsePlace } from '../src/place'

describe('payload', () => {
  it('says where JSON stops making sense', () => {
    expect(checkJSON('{"a": 1}')).toEqual({ ok: true, value: { a: 1 } })
    expect(checkJSON('{\n  "a": x\n}')).toMatchObject({ ok: false, line: 2, column: 8 })
    expect(checkJSON('{"a":')).toMatchObject({ ok: false, line: 1, column: 6 })
    for (const [text, column] of [['{"a": 1,}', 9], ['[1 2]', 4], ['tru', 1], ['{"a":1} x', 9], ['01', 2], ['["a', 2], ['', 1], ["{'a':1}", 2], ['[1e5, -0.5, "\\u00e4\\n", {}, [], nul]', 33]] as const)
      expect(checkJSON(text), text).toMatchObject({ ok: false, line: 1, column })
  })
  it('is shown as a phone would', () => {
    expect(preview({ buyer: '小**', product: '茶', quantity: 2 })).toEqual({ kind: 'purchase', buyer: '小**', product: '茶', quantity: 2 })
    expect(preview({ title: 'T', text: 'x' })).toEqual({ kind: 'text', title: 'T', text: 'x' })
    expect(preview('hello')).toEqual({ kind: 'text', title: '', text: 'hello' })
    expect(preview([1, 2])).toEqual({ kind: 'json', text: '[1,2]' })
    expect(preview(null)).toEqual({ kind: 'json', text: 'null' })
    expect(preview({ product: { evil: 1 }, quantity: 1 })).toMatchObject({ kind: 'json' })
  })
  it('parts names', () => expect(names(' notice, room:a，room:b\nnotice ;')).toEqual(['notice', 'room:a', 'room:b']))
})

describe('place', () => {
  it.each(['room:live.7', 'user:a-b', '100%', 'a/b', '客'])('leads to %j and back', (about) => {
    const place = parsePlace(href('rooms', about, { userId: 'u 1' }))
    expect(place).toMatchObject({ page: 'rooms', about })
    expect(place.query.get('userId')).toBe('u 1')
  })
  it('takes what it does not know for the overview', () => {
    for (const hash of ['', '#', '#/', '#/nothing/x', '#/overview']) expect(parsePlace(hash)).toMatchObject({ page: 'overview', about: '' })
    expect(parsePlace('#/rooms/%E0%A4%A')).toMatchObject({ page: 'rooms', about: '%E0%A4%A' })
  })
})
