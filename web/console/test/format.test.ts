import { describe, expect, it } from 'vitest'
import { figure, moment, span } from '../src/format'

const s = 1000, min = 60 * s, h = 60 * min, d = 24 * h

describe('format', () => {
  it.each([
    [0, '0 s', '0 秒'], [12 * s, '12 s', '12 秒'], [61 * s, '1 min', '1 分'], [59 * min + 59 * s, '59 min', '59 分'], [h, '1 h', '1 小时'],
    [47 * h + 5 * min, '47 h 5 min', '47 小时 5 分'], [3 * d + 4 * h, '3 d 4 h', '3 天 4 小时'], [400 * d, '400 d', '400 天'], [-5, '0 s', '0 秒'],
  ])('a span of %d ms', (ms, en, zh) => {
    expect(span(ms, 'en')).toBe(en)
    expect(span(ms, 'zh')).toBe(zh)
  })
  it('keeps figures short', () => {
    expect([0, 7, 3.5, 99.96, 123.4, 9999].map((n) => figure(n, 'en'))).toEqual(['0', '7', '3.5', '100.0', '123', '9999'])
    expect(figure(13_190_400, 'en')).toBe('13.19M')
    expect(figure(13_190_400, 'zh')).toBe('1319万')
    expect(figure(NaN, 'en')).toBe('–')
  })
  it('names the year of another one only', () => {
    const at = new Date(2026, 10, 21, 14, 3).getTime()
    expect(moment(at, at)).toBe('11-21 14:03')
    expect(moment(at, new Date(2027, 0, 1).getTime())).toBe('2026-11-21 14:03')
  })
})
