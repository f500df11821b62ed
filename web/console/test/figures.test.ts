import { describe, expect, it, vi } from 'vitest'
import type { Stats } from '../src/api'

// The module asks the hub by itself; here nobody is logged in.
vi.stubGlobal('document', { hidden: false, documentElement: {}, addEventListener() {} })
vi.stubGlobal('navigator', { language: 'en' })
vi.stubGlobal('setInterval', () => 0)
const { sampled } = await import('../src/figures')

const stats = (uptime: number, published: number, delivered: number) => ({ uptime, published, delivered }) as Stats

describe('figures', () => {
  it('makes rates of counters', () => {
    const one = sampled([], stats(10, 100, 5000), 1000)
    expect(one[0]).toMatchObject({ publishedRate: null, deliveredRate: null })
    expect(sampled(one, stats(12, 110, 6000), 3000)[1]).toMatchObject({ publishedRate: 5, deliveredRate: 500 })
  })
  it('makes no rate over a restart or a long pause', () => {
    const one = sampled([], stats(100, 100, 5000), 1000)
    expect(sampled(one, stats(1, 3, 3), 3000)[1].publishedRate).toBeNull()
    expect(sampled(one, stats(160, 900, 9000), 61_000)[1].publishedRate).toBeNull()
  })
  it('keeps five minutes', () => {
    let samples = sampled([], stats(0, 0, 0), 0)
    for (let i = 1; i < 400; i++) samples = sampled(samples, stats(i * 2, i, i), i * 2000)
    expect(samples).toHaveLength(150)
    expect(samples.at(-1)!.at).toBe(399 * 2000)
  })
})
