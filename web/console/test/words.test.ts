import { describe, expect, it } from 'vitest'
import { words } from '../src/words'

const entries = Object.entries(words)
const blanks = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort()
const sources = Object.entries(import.meta.glob<string>(['../src/**/*.{ts,tsx}', '!../src/words.ts'], { query: '?raw', import: 'default', eager: true }))

describe('words', () => {
  it.each(entries)('%s stands in both languages, with the same blanks', (_, { zh, en }) => {
    expect(zh.trim()).not.toBe('')
    expect(en.trim()).not.toBe('')
    expect(blanks(zh)).toEqual(blanks(en))
    expect(en).not.toMatch(/\p{Script=Han}/u)
  })

  // A key may be put together: state.${s} uses all that begin with state.
  it('are all used', () => {
    const all = sources.map(([, text]) => text).join('\n')
    const beginnings = [...all.matchAll(/[`']([\w.]+\.)\$\{/g)].map((m) => m[1])
    const unused = entries.map(([key]) => key).filter((key) => !all.includes(`'${key}'`) && !all.includes(`words.${key}[`) && !beginnings.some((b) => key.startsWith(b)))
    expect(unused).toEqual([])
  })

  it('are the only texts: no page has Chinese of its own', () => {
    const own = sources.filter(([name]) => !/(app\.tsx|format\.ts|fen\.ts|payload\.ts)$/.test(name)).filter(([, text]) => /\p{Script=Han}/u.test(text.replace(/\/\/.*$/gm, '')))
    expect(own.map(([name]) => name)).toEqual([])
  })
})
