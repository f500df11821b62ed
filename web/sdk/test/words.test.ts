import { expect, test } from 'vitest'
import { fullJitter } from '../src/backoff'
import { parseReason } from '../src/protocol'

test.each([
  ['', { word: '' }],
  ['restart', { word: 'restart' }],
  ['restart;retry=1500', { word: 'restart', retry: 1500 }],
  ['restart;x=1;retry=0', { word: 'restart', retry: 0 }],
  ['restart;retry=', { word: 'restart' }],
  ['restart;retry=-5', { word: 'restart' }],
  ['restart;retry=1e9', { word: 'restart' }],
  ['restart;retry=99999999999999', { word: 'restart' }],
])('reason %j', (reason, want) => {
  expect(parseReason(reason)).toEqual(want)
})

test('full jitter stays between nothing and the bound', () => {
  const backoff = { base: 1000, cap: 30000 }
  expect([0, 1, 2, 5, 50].map((n) => fullJitter(n, backoff, () => 0.9999))).toEqual([999, 1999, 3999, 29997, 29997])
  expect(fullJitter(9, backoff, () => 0)).toBe(0)
})
