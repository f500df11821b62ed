import { describe, expect, it } from 'vitest'
import { parseYuan, price, yuan } from '../src/fen'

describe('fen', () => {
  it('shows yuan', () => {
    expect([0, 1, 10, 99, 100, 12800, 128050].map(yuan)).toEqual(['0.00', '0.01', '0.10', '0.99', '1.00', '128.00', '1280.50'])
    expect(yuan(-250)).toBe('-2.50')
    expect(price(123456789)).toBe('¥1,234,567.89')
    expect(price(99999)).toBe('¥999.99')
  })
  it.each([
    ['128', 12800], ['128.', undefined], ['128.5', 12850], ['128.05', 12805], ['0.01', 1], ['0', 0], ['1,280.50', 128050], ['¥3', 300], [' 3 元 ', 300],
    ['１２．８０', 1280], ['￥5', 500], ['', undefined], ['1.234', undefined], ['-1', undefined], ['1e3', undefined], ['12,80', undefined], ['abc', undefined],
    ['0.29', 29], ['1.15', 115], ['8.2', 820], ['1234567890', undefined],
  ])('reads %j as %j fen', (text, fen) => expect(parseYuan(text as string)).toBe(fen))
  it('reads what it shows', () => {
    for (let fen = 0; fen < 100_000; fen += 7) expect(parseYuan(yuan(fen))).toBe(fen)
    for (const fen of [1_000_00, 99_999_999, 12_345_678_9]) expect(parseYuan(price(fen))).toBe(fen)
  })
})
