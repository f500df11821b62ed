import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { HubError, WxHub, type HubOptions, type Push, type StateChange } from '../src/index'
import { FakeServer } from './fakeServer'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => {
  expect(vi.getTimerCount()).toBe(0) // a closed hub leaves nothing behind
  vi.useRealTimers()
})

const settle = () => vi.advanceTimersByTimeAsync(0)
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

/** A hub against a fake server, with everything that happens to its page written down. */
function setup(options: Partial<HubOptions> = {}) {
  const server = new FakeServer()
  const tokens: boolean[] = [] // for each token that was asked for: whether it had to be fresh
  const hub = new WxHub({
    url: 'https://hub.example/ws',
    getToken: (fresh) => {
      tokens.push(fresh)
      return `t${tokens.length}`
    },
    transport: server.transport,
    random: () => 0.5,
    ...options,
  })
  const states: StateChange[] = []
  const errors: Error[] = []
  hub.on('state', (change) => states.push(change))
  hub.on('error', (error) => errors.push(error))
  return { hub, server, tokens, states, errors }
}

/** Handlers that write down what a room's page hears, as short words. */
function listener() {
  const heard: string[] = []
  return {
    heard,
    handlers: {
      onMessage: (push: Push) => void heard.push(`${push.data.action} ${push.meta.offset ?? 'live'}`),
      onReload: (reason: string) => void heard.push(`reload ${reason}`),
      onJoin: (s: { recovered: boolean; missed: number }) => void heard.push(s.recovered ? `recovered ${s.missed}` : 'joined'),
      onPresence: (change: { action: string; user: string }) => void heard.push(`${change.user} ${change.action}s`),
      onError: (error: Error) => void heard.push((error as HubError).error),
    },
  }
}

async function connected(names: string[] = ['notice'], options: Partial<HubOptions> = {}) {
  const all = setup(options)
  const page = listener()
  for (const name of names) all.hub.join(name, page.handlers)
  all.hub.connect()
  await settle()
  all.server.line.welcome(names.map((room) => ({ room, epoch: 'e1', offset: 10 })))
  return { ...all, ...page }
}

describe('connecting', () => {
  test('rooms and token travel with the handshake', async () => {
    const { hub, server, states, tokens } = setup()
    hub.join('notice')
    hub.join('live:7', {}, { since: { epoch: 'e9', offset: 4 } })
    hub.connect()
    hub.connect() // once is enough
    await settle()
    expect(server.lines).toHaveLength(1)
    expect(server.line.target.url).toBe('wss://hub.example/ws?room=notice&room=live%3A7%40e9%3A4')
    expect(server.line.target.protocols).toEqual(['wxhub.v1', 'bearer.t1'])
    expect(tokens).toEqual([false])

    server.line.welcome([{ room: 'notice', epoch: 'e1', offset: 0 }, { room: 'live:7', epoch: 'e9', offset: 4, recovered: true }])
    expect(states.map((s) => s.state)).toEqual(['connecting', 'connected'])
    expect([hub.client, hub.user]).toEqual(['c1', 'ann'])
    hub.close()
    expect(server.line.closed?.code).toBe(1000)
  })

  test('the token can travel in the header or the query', async () => {
    for (const tokenIn of ['header', 'query'] as const) {
      const { hub, server } = setup({ tokenIn, url: () => 'wss://hub.example/ws?v=1' })
      hub.connect()
      await settle()
      expect(server.line.target).toEqual(
        tokenIn === 'header'
          ? { url: 'wss://hub.example/ws?v=1', protocols: [], header: { Authorization: 'Bearer t1' } }
          : { url: 'wss://hub.example/ws?v=1&token=t1', protocols: [], header: {} },
      )
      hub.close()
    }
  })

  test('a handshake without a close code asks for a fresh token, and tries the query from the third on', async () => {
    const { hub, server, tokens } = setup()
    hub.connect()
    for (let i = 0; i < 4; i++) {
      await pass(4000) // the longest of these waits; a handshake would be given up after ten seconds
      server.line.end(undefined)
    }
    await pass(4000)
    expect(tokens).toEqual([false, true, true, true, true])
    expect(server.lines.map((line) => line.query.some((q) => q.startsWith('token=')))).toEqual([false, false, true, false, true])
    server.line.welcome()
    await pass(6000)
    server.line.end(1012)
    await pass(1000)
    expect(server.line.target.protocols).toHaveLength(2) // a network that was merely down gets the better way again
    expect(tokens[5]).toBe(false)
    hub.close()
  })

  test('a welcome that does not come counts as a lost line', async () => {
    const { hub, server, states } = setup()
    hub.connect()
    await settle()
    server.line.open()
    await pass(10_000)
    expect(states[states.length - 1]).toMatchObject({ state: 'connecting', reason: 'timeout' })
    expect(server.line.closed?.code).toBe(4000)
    hub.close()
  })

  test('a token that does not come is asked for again', async () => {
    let broken = true
    const { hub, server, errors } = setup({
      getToken: () => (broken ? Promise.reject(new Error('login is away')) : 'ok'),
    })
    hub.connect()
    await settle()
    expect(server.lines).toHaveLength(0)
    expect(errors.map((e) => e.message)).toEqual(['login is away'])
    broken = false
    await pass(1000)
    expect(server.lines).toHaveLength(1)
    hub.close()
  })

  test('close while the token is on its way opens no line', async () => {
    let give: (token: string) => void = () => undefined
    const { hub, server } = setup({ getToken: () => new Promise((resolve) => (give = resolve)) })
    hub.connect()
    hub.close()
    give('late')
    await settle()
    expect(server.lines).toHaveLength(0)
  })

  test('a transport that throws is a line that failed', async () => {
    const { hub, states, errors } = setup({
      transport: () => {
        throw new Error('no sockets left')
      },
    })
    hub.connect()
    await settle()
    expect(errors[0]?.message).toBe('no sockets left')
    expect(states[states.length - 1]).toMatchObject({ state: 'connecting', retryIn: 500 })
    hub.close()
  })
})

describe('reconnecting', () => {
  test('waits grow with full jitter and start anew after a stable line', async () => {
    const { hub, server, states } = setup({ backoff: { base: 1000, cap: 8000 } })
    hub.connect()
    await settle()
    for (let i = 0; i < 5; i++) {
      server.line.welcome().end(1011, 'fault')
      await pass(10_000)
    }
    server.line.welcome()
    await pass(5000)
    server.line.end(1011, 'fault')
    expect(states.filter((s) => s.retryIn !== undefined).map((s) => s.retryIn)).toEqual([500, 1000, 2000, 4000, 4000, 500])
    hub.close()
  })

  test("the server's hint says when, and a wake does not come before it", async () => {
    const { hub, server, states } = await connected()
    server.line.end(1012, 'restart;retry=7000')
    expect(states[states.length - 1]).toEqual({ state: 'connecting', code: 1012, reason: 'restart', retryIn: 7000 })
    hub.wake()
    await pass(6999)
    expect(server.lines).toHaveLength(1)
    await pass(1)
    expect(server.lines).toHaveLength(2)
    hub.close()
  })

  test.each([
    [1011, 'connecting'], [1012, 'connecting'], [1009, 'connecting'], [4401, 'connecting'], [4408, 'connecting'],
    [4413, 'connecting'], [4429, 'connecting'], [4500, 'disconnected'], [4501, 'disconnected'],
    [4503, 'disconnected'], [4509, 'disconnected'], [1000, 'connecting'], [undefined, 'connecting'],
  ])('code %s leads to %s', async (code, state) => {
    const { hub, server, states } = await connected()
    server.line.end(code, 'word')
    expect(states[states.length - 1]).toMatchObject({ state, code, reason: 'word' })
    await pass(1000)
    expect(server.lines).toHaveLength(state === 'connecting' ? 2 : 1)
    hub.wake() // does not bring back who was sent away
    await settle()
    expect(hub.state).toBe(state)
    hub.close()
  })

  test('after a stay-away code connect() starts again', async () => {
    const { hub, server } = await connected()
    server.line.end(4509, 'replaced')
    hub.connect()
    await settle()
    expect(server.lines).toHaveLength(2)
    hub.close()
  })

  test('an expired token is replaced before the next try', async () => {
    const { hub, server, tokens } = await connected()
    server.line.end(4401, 'token_expired')
    await pass(1000)
    expect(tokens).toEqual([false, true])
    expect(server.line.target.protocols[1]).toBe('bearer.t2')
    hub.close()
  })

  test('a line lost without a code after it was open keeps its token', async () => {
    const { hub, server, tokens } = await connected()
    server.line.end(undefined)
    await pass(1000)
    expect(tokens).toEqual([false, false])
    hub.close()
  })
})

describe('recovery', () => {
  test('positions return with the handshake, and what was missed arrives once and in order', async () => {
    const { hub, server, heard } = await connected(['notice', 'room:a'])
    server.line.push('notice', 11)
    server.line.push('notice', 12)
    server.line.end(1012, 'restart;retry=10')
    await pass(10)
    expect(server.line.query).toEqual(['room=notice@e1:12', 'room=room:a@e1:10'])
    server.line.welcome([
      { room: 'notice', epoch: 'e1', offset: 14, recovered: true, missed: 2 },
      { room: 'room:a', epoch: 'e1', offset: 10, recovered: true, missed: 0 },
    ])
    server.line.push('notice', 13)
    server.line.push('notice', 14)
    server.line.push('notice', 14) // the wire may repeat
    expect(heard).toEqual([
      'joined', 'joined', 'purchase 11', 'purchase 12', 'recovered 2', 'recovered 0', 'purchase 13', 'purchase 14',
    ])
    expect(server.lines).toHaveLength(2)
    hub.close()
  })

  test('a gap that the history cannot fill is told, and the page goes on from there', async () => {
    const { hub, server, heard } = await connected()
    server.line.end(1011)
    await pass(1000)
    server.line.welcome([{ room: 'notice', epoch: 'e1', offset: 5000, recovered: false }])
    server.line.push('notice', 5001)
    expect(heard).toEqual(['joined', 'reload lost', 'joined', 'purchase 5001'])
    hub.close()
  })

  test('a welcome of another epoch is a loss even when it does not say so', async () => {
    const { hub, server, heard } = await connected()
    server.line.end(1011)
    await pass(1000)
    server.line.welcome([{ room: 'notice', epoch: 'e2', offset: 10 }])
    expect(heard).toEqual(['joined', 'reload lost', 'joined'])
    hub.close()
  })

  test('a new epoch on the open line is told before its message', async () => {
    const { hub, server, heard } = await connected()
    server.line.push('notice', 11)
    server.line.push('notice', 1, { epoch: 'e2' })
    server.line.push('notice', 2, { epoch: 'e2' })
    expect(heard).toEqual(['joined', 'purchase 11', 'reload epoch', 'purchase 1', 'purchase 2'])
    hub.close()
  })

  test('a hole on the open line is fetched by a new line', async () => {
    const { hub, server, heard, states } = await connected()
    server.line.push('notice', 13)
    expect(heard).toEqual(['joined'])
    expect(states[states.length - 1]).toMatchObject({ state: 'connecting', reason: 'gap' })
    await pass(1000)
    expect(server.line.query).toEqual(['room=notice@e1:10'])
    server.line.welcome([{ room: 'notice', epoch: 'e1', offset: 13, recovered: true, missed: 3 }])
    for (const offset of [11, 12, 13]) server.line.push('notice', offset)
    expect(heard).toEqual(['joined', 'recovered 3', 'purchase 11', 'purchase 12', 'purchase 13'])
    hub.close()
  })

  test('a hole that comes back the same way is told instead of looping', async () => {
    const { hub, server, heard } = await connected()
    server.line.push('notice', 13)
    await pass(1000)
    server.line.welcome([{ room: 'notice', epoch: 'e1', offset: 13, recovered: true }])
    server.line.push('notice', 13)
    expect(heard).toEqual(['joined', 'recovered 3', 'reload gap', 'purchase 13'])
    expect(server.lines).toHaveLength(2)
    hub.close()
  })

  test('one id of a room reaches the page once, whatever its offset', async () => {
    const { hub, server, heard } = await connected(['notice', 'room:a'])
    server.line.push('notice', 11, { id: 'm1' })
    server.line.push('notice', 12, { id: 'm1' })
    server.line.push('room:a', 11, { id: 'm1' }) // a broadcast says the same id in several rooms
    server.line.push('notice', 13, { id: 'm2' })
    expect(heard.slice(2)).toEqual(['purchase 11', 'purchase 11', 'purchase 13'])
    hub.close()
  })

  test('pushes of a line that was given up are not heard', async () => {
    const { hub, server, heard } = await connected()
    const old = server.line
    old.push('notice', 13) // a gap: the line is dropped
    old.push('notice', 11)
    expect(heard).toEqual(['joined'])
    hub.close()
  })
})

describe('rooms', () => {
  test('a room entered on the open line asks by itself, with its position', async () => {
    const { hub, server, heard } = await connected([])
    const page = listener()
    hub.join('room:b', page.handlers, { since: { epoch: 'e1', offset: 3 } })
    expect(server.line.received).toEqual([{ id: 1, action: 'join', room: 'room:b', since: { epoch: 'e1', offset: 3 } }])
    server.line.reply('join', { room: 'room:b', epoch: 'e1', offset: 4, recovered: true, missed: 1 })
    await settle()
    server.line.push('room:b', 4)
    expect(page.heard).toEqual(['recovered 1', 'purchase 4'])
    expect(heard).toEqual([])
    hub.close()
  })

  test('a room that the query did not get into is asked for and refused alone', async () => {
    const { hub, server } = setup()
    const page = listener()
    hub.join('kf', page.handlers)
    hub.connect()
    await settle()
    server.line.welcome([])
    server.line.send({ reply: 1, ok: false, error: 'forbidden', message: 'staff only' })
    await settle()
    expect(page.heard).toEqual(['forbidden'])
    expect(hub.state).toBe('connected')
    hub.close()
  })

  test('a room that cannot be had just now is asked for again, or comes by itself', async () => {
    const { hub, server } = await connected(['notice'])
    const page = listener()
    hub.join('live:7', page.handlers, { since: { epoch: 'e9', offset: 4 } })
    hub.join('live:8', page.handlers)
    for (const reply of [1, 2]) server.line.send({ reply, ok: false, error: 'unavailable', message: 'try again in a moment' })
    await pass(1499)
    expect(server.line.received).toHaveLength(2)
    server.line.send({ reply: null, ok: true, room: 'live:8', epoch: 'e1', offset: 3 })
    await pass(1)
    expect(server.line.received).toHaveLength(3)
    expect(server.line.received[2]).toMatchObject({ action: 'join', room: 'live:7', since: { epoch: 'e9', offset: 4 } })
    server.line.send({ reply: 3, ok: true, room: 'live:7', epoch: 'e9', offset: 4, recovered: true, missed: 0 })
    await settle()
    expect(page.heard).toEqual(['joined', 'recovered 0'])
    server.line.send({ reply: null, ok: true, room: 'live:7', epoch: 'e9', offset: 4, recovered: true, missed: 0 })
    expect(page.heard).toHaveLength(2)
    hub.join('live:9', page.handlers)
    server.line.send({ reply: 4, ok: false, error: 'unavailable', message: 'try again in a moment' })
    await settle()
    hub.close()
  })

  test('pages share a room; the last one to go leaves it', async () => {
    const { hub, server } = await connected()
    const second = listener()
    const membership = hub.join('notice', second.handlers)
    const third = hub.join('notice')
    await settle()
    server.line.push('notice', 11)
    expect(second.heard).toEqual(['joined', 'purchase 11'])
    expect(server.line.actions).toEqual([])
    membership.leave()
    membership.leave()
    third.leave()
    expect(server.line.actions).toEqual([]) // the first page is still there
    hub.close()
  })

  test('leave', async () => {
    const { hub, server } = await connected([])
    const page = listener()
    const membership = hub.join('room:b', page.handlers)
    membership.leave()
    expect(server.line.actions).toEqual(['join', 'leave'])
    server.line.end(1011)
    await pass(1000)
    expect(server.line.query).toEqual([])
    hub.close()
  })

  test('who comes and goes is told apart from messages', async () => {
    const { hub, server, heard } = await connected(['room:a'])
    server.line.send({ meta: { room: 'room:a', timestamp: 1 }, data: { action: 'join', payload: { user: 'bob' } } })
    server.line.send({ meta: { room: 'room:a', timestamp: 1 }, data: { action: 'leave', payload: { user: 'bob' } } })
    expect(heard).toEqual(['joined', 'bob joins', 'bob leaves'])
    hub.close()
  })

  test('a handler that throws stops neither the others nor the socket', async () => {
    const { hub, server, heard, errors } = await connected()
    hub.join('notice', {
      onMessage: () => {
        throw new Error('page fault')
      },
    })
    server.line.push('notice', 11)
    server.line.push('notice', 12)
    expect(heard).toEqual(['joined', 'purchase 11', 'purchase 12'])
    expect(errors.map((e) => e.message)).toEqual(['page fault', 'page fault'])
    hub.close()
  })
})

describe('asking', () => {
  test('publish, presence, history and their refusals', async () => {
    const { hub, server } = await connected()
    const said = hub.publish('notice', 'hello', { text: '你好' })
    await settle()
    expect(server.line.received[0]).toEqual({ id: 1, action: 'publish', room: 'notice', data: { action: 'hello', payload: { text: '你好' } } })
    server.line.reply('publish', { epoch: 'e1', offset: 11 })
    expect(await said).toEqual({ epoch: 'e1', offset: 11 })

    const who = hub.presence('notice')
    await settle()
    server.line.reply('presence', { count: 3 })
    expect(await who).toEqual({ count: 3 })

    const old = hub.history('notice', { limit: 2 })
    await settle()
    expect(server.line.received[2]).toEqual({ id: 3, action: 'history', room: 'notice', limit: 2 })
    server.line.reply('history', { epoch: 'e1', offset: 11, messages: [] })
    expect((await old).messages).toEqual([])

    const refused = hub.publish('notice', 'welcome', {})
    await settle()
    server.line.send({ reply: 4, ok: false, error: 'forbidden_action', message: 'the server says that' })
    await expect(refused).rejects.toMatchObject({ error: 'forbidden_action', message: 'the server says that' })
    hub.close()
  })

  test('waits for the line while connecting, and ends with it', async () => {
    const { hub, server } = setup()
    hub.connect()
    const early = hub.publish('room:a', 'hi', 1)
    await settle()
    server.line.welcome()
    await settle()
    expect(server.line.actions).toEqual(['publish'])
    server.line.end(1011)
    await expect(early).rejects.toMatchObject({ error: 'disconnected' }) // whether it was said is unknown: not said again
    const never = hub.presence('room:a')
    hub.close()
    await expect(never).rejects.toMatchObject({ error: 'disconnected' })
    await expect(hub.presence('room:a')).rejects.toMatchObject({ error: 'disconnected' })
  })

  test('no answer in time', async () => {
    const { hub } = await connected()
    const asked = expect(hub.presence('notice')).rejects.toMatchObject({ error: 'timeout' })
    await pass(10_000)
    await asked
    hub.close()
  })

  test('refresh brings a fresh token to the open line', async () => {
    const { hub, server, tokens } = await connected()
    const done = hub.refresh()
    await settle()
    expect(tokens).toEqual([false, true])
    expect(server.line.received[0]).toEqual({ id: 1, action: 'refresh', token: 't2' })
    server.line.reply('refresh')
    await done
    hub.close()
  })
})

describe('mail', () => {
  const standing = (offset: number) => ({ room: 'user:ann', epoch: 'd1', offset })

  async function withMail() {
    const all = setup()
    const page = listener()
    all.hub.mail(page.handlers)
    all.hub.connect()
    await settle()
    all.server.line.welcome([standing(5)])
    return { ...all, ...page }
  }

  test('what was not acknowledged follows the welcome and is acknowledged together', async () => {
    const { hub, server, heard } = await withMail()
    expect(server.line.query).toEqual([])
    for (const offset of [4, 5, 6]) server.line.push('user:ann', offset, { epoch: 'd1', action: 'order.paid' })
    expect(heard).toEqual(['joined', 'order.paid 4', 'order.paid 5', 'order.paid 6'])
    expect(server.line.actions).toEqual([])
    await pass(1000)
    expect(server.line.received).toEqual([{ id: 1, action: 'ack', room: 'user:ann', offset: 6 }])
    server.line.reply('ack')
    await pass(5000)
    expect(server.line.actions).toEqual(['ack'])
    hub.close()
  })

  test('at most one acknowledgement a second, and one before the app sleeps', async () => {
    const { hub, server } = await withMail()
    for (let offset = 6; offset < 26; offset++) {
      server.line.push('user:ann', offset, { epoch: 'd1' })
      await pass(100)
    }
    expect(server.line.actions.length).toBeLessThanOrEqual(2)
    server.line.push('user:ann', 26, { epoch: 'd1' })
    hub.hide()
    expect(server.line.received[server.line.received.length - 1]).toMatchObject({ action: 'ack', offset: 26 })
    hub.close()
  })

  test('an acknowledgement that a lost line took with it is said again', async () => {
    const { hub, server } = await withMail()
    server.line.push('user:ann', 6, { epoch: 'd1' })
    await pass(1000)
    server.line.end(1011) // before the answer
    await pass(1000)
    expect(server.line.query).toEqual(['room=user:ann@d1:6'])
    server.line.welcome([{ ...standing(6), recovered: true, missed: 0 }])
    expect(server.line.received).toEqual([{ id: 1, action: 'ack', room: 'user:ann', offset: 6 }])
    hub.close()
  })

  test('another person signed in: nothing of the former is brought or kept', async () => {
    const { hub, server, heard } = await withMail()
    server.line.push('user:ann', 6, { epoch: 'd1' })
    server.line.end(1011)
    await pass(1000)
    server.line.welcome([{ room: 'user:bob', epoch: 'd1', offset: 2 }], { user: 'bob' })
    server.line.push('user:bob', 1, { epoch: 'd1' })
    expect(heard).toEqual(['joined', 'purchase 6', 'joined', 'purchase 1'])
    await pass(1000)
    expect(server.line.received).toMatchObject([{ action: 'ack', room: 'user:bob', offset: 1 }])
    hub.close()
  })

  test('a mailbox of another life is heard from its oldest letter', async () => {
    const { hub, server, heard } = await withMail()
    server.line.push('user:ann', 6, { epoch: 'd1' })
    server.line.end(1011)
    await pass(1000)
    server.line.welcome([{ room: 'user:ann', epoch: 'd2', offset: 3, recovered: false, missed: 0 }])
    await pass(1000)
    expect(server.line.query).toEqual(['room=user:ann'])
    server.line.welcome([{ room: 'user:ann', epoch: 'd2', offset: 3 }])
    server.line.push('user:ann', 2, { epoch: 'd2' })
    expect(heard).toEqual(['joined', 'purchase 6', 'reload lost', 'joined', 'joined', 'purchase 2'])
    hub.close()
  })

  test('a page that asks late gets it by a new line', async () => {
    const { hub, server } = await connected()
    const page = listener()
    hub.mail(page.handlers)
    await pass(1000)
    server.line.welcome([{ room: 'notice', epoch: 'e1', offset: 10, recovered: true }, standing(1)])
    server.line.push('user:ann', 1, { epoch: 'd1' })
    expect(page.heard).toEqual(['joined', 'purchase 1'])
    hub.close()
  })
})

describe('heartbeats', () => {
  test('a ping is answered', async () => {
    const { hub, server } = await connected()
    server.line.send({ ping: 1700000000000 })
    expect(server.line.received).toEqual([{ pong: 1700000000000 }])
    hub.close()
  })

  test('silence of twice the heartbeat is a dead line', async () => {
    const { hub, server, states } = await connected()
    await pass(49_000)
    server.line.send({ ping: 1 })
    await pass(49_999)
    expect(hub.state).toBe('connected')
    await pass(1)
    expect(states[states.length - 1]).toMatchObject({ state: 'connecting', reason: 'silent' })
    expect(server.line.closed).toEqual({ code: 4000, reason: 'silent' })
    hub.close()
  })

  test('wake: a line that answers stays', async () => {
    const { hub, server } = await connected()
    hub.wake()
    hub.wake()
    expect(server.line.actions).toEqual(['ping'])
    await pass(1000)
    server.line.reply('ping')
    await pass(5000)
    expect(server.lines).toHaveLength(1)
    hub.close()
  })

  test('wake: a line that died in the sleep is replaced', async () => {
    const { hub, server } = await connected()
    hub.wake()
    await pass(3000 + 500)
    expect(server.lines).toHaveLength(2)
    expect(server.line.query).toEqual(['room=notice@e1:10'])
    hub.close()
  })

  test('wake: a pending retry happens now', async () => {
    const { hub, server } = await connected()
    server.line.end(1000, 'interrupted')
    hub.wake()
    await settle()
    expect(server.lines).toHaveLength(2)
    hub.wake() // a handshake is under way already
    await settle()
    expect(server.lines).toHaveLength(2)
    hub.close()
  })

  test('nonsense on the wire is told and survived', async () => {
    const { hub, server, heard, errors } = await connected()
    for (const text of ['', '{', 'null', '[]', '7', '{"reply":99,"ok":true}', '{"meta":{"room":"elsewhere"},"data":{"action":"x"}}']) server.line.raw(text)
    server.line.push('notice', 11)
    expect(heard).toEqual(['joined', 'purchase 11'])
    expect(errors).toHaveLength(2)
    hub.close()
  })
})
