import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { WxHub, type Position } from '../src/index'
import { FakeServer, type ServerLine } from './fakeServer'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Numbers that look random and are the same in every run (mulberry32). */
function dice(seed: number) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A room as a hub keeps it: a stream that forgets its beginning, and may begin a new life. */
class Stream {
  life = 1
  first = 1
  head = 0

  get epoch() {
    return `e${this.life}`
  }

  standing(since: Position | undefined) {
    const recovered = since && since.epoch === this.epoch && since.offset >= this.first - 1 && since.offset <= this.head
    return {
      room: 'notice', epoch: this.epoch, offset: this.head,
      ...(since && { recovered: !!recovered, missed: recovered ? this.head - since.offset : 0 }),
      from: recovered ? since.offset + 1 : this.head + 1,
    }
  }
}

test.each(Array.from({ length: 60 }, (_, seed) => seed))('whatever happens, once and in order (seed %i)', async (seed) => {
  const roll = dice(seed)
  const pick = (n: number) => Math.floor(roll() * n)
  const server = new FakeServer()
  const stream = new Stream()
  const live = new Set<ServerLine>() // lines that hear what is said
  const log: (string | Position)[] = []
  const hub = new WxHub({ url: 'wss://hub.example/ws', getToken: () => 't', transport: server.transport, random: roll })
  hub.join('notice', {
    onMessage: (push) => void log.push({ epoch: push.meta.epoch!, offset: push.meta.offset! }),
    onReload: (why) => void log.push(why),
  })
  hub.connect()

  const greet = (line: ServerLine) => {
    const place = /^room=notice@(.+):(\d+)$/.exec(line.query[0] ?? '')
    const { from, ...standing } = stream.standing(place ? { epoch: place[1]!, offset: Number(place[2]) } : undefined)
    line.welcome([standing])
    live.add(line)
    for (let offset = from; offset <= stream.head; offset++) line.push('notice', offset, { epoch: stream.epoch })
  }
  const greeted = new Set<ServerLine>()
  const settle = async (ms: number) => {
    await vi.advanceTimersByTimeAsync(ms)
    for (const line of live) line.send({ ping: 1 })
    for (const line of server.lines) {
      if (line.closed) live.delete(line)
      if (greeted.has(line) || line.closed) continue
      greeted.add(line)
      if (roll() < 0.2) line.end(roll() < 0.5 ? undefined : 1012, 'restart;retry=50') // refused at the door
      else greet(line)
    }
  }

  for (let step = 0; step < 120; step++) {
    const act = roll()
    if (act < 0.6) {
      stream.head++
      for (const line of live) if (roll() > 0.03) line.push('notice', stream.head, { epoch: stream.epoch }) // lost on the way at times
    } else if (act < 0.7) {
      for (const line of live) line.push('notice', Math.max(1, stream.head - pick(3)), { epoch: stream.epoch }) // the wire repeats itself
    } else if (act < 0.78) {
      for (const line of [...live]) {
        live.delete(line)
        line.end([undefined, 1000, 1011, 1012, 4401, 4413][pick(6)], 'word')
      }
    } else if (act < 0.82) {
      stream.first = Math.max(stream.first, stream.head - pick(4)) // history is trimmed
    } else if (act < 0.84) {
      stream.life++
      stream.first = 1
      stream.head = 0
    } else if (act < 0.9) {
      hub.wake()
    }
    await settle(pick(4000))
  }
  // Peace: everything comes back, and one more message ends it.
  for (let i = 0; i < 10; i++) await settle(40_000)
  for (let last = 0; last < 2; last++) {
    stream.head++
    for (const line of live) line.push('notice', stream.head, { epoch: stream.epoch })
    for (let i = 0; i < 10; i++) await settle(40_000)
  }

  const seen = new Set<string>()
  let before: Position | undefined
  for (const entry of log) {
    if (typeof entry === 'string') {
      before = undefined // the page was told that something is missing
      continue
    }
    const name = `${entry.epoch}:${entry.offset}`
    expect(seen, `${name} came twice`).not.toContain(name)
    seen.add(name)
    if (before) expect(entry, `after ${before.epoch}:${before.offset}`).toEqual({ epoch: before.epoch, offset: before.offset + 1 })
    before = entry
  }
  expect(before).toEqual({ epoch: stream.epoch, offset: stream.head })
  expect(hub.state).toBe('connected')
  hub.close()
})
