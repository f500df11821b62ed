import { fullJitter } from './backoff'
import { withDefaults, type HubEvents, type HubOptions, type Membership, type State, type StateChange } from './options'
import {
  CloseCode, HubError, parseReason, staysAway,
  type History, type HistoryQuery, type Position, type Presence, type Push, type Standing, type Welcome,
} from './protocol'
import { Room, type RoomHandlers } from './room'
import { Session } from './session'
import type { Target } from './transport'

const stableAfter = 5000 // ms a line must have lived for its loss to count as the first again
const ackEvery = 1000 // ms: mini-programs may send some five frames a second in all
const knockFrom = 1000 // ms until a room that could not be had is asked for again, plus as much at random
const wakeWait = 3000 // ms to answer when the app returns; the line is replaced after it

/**
 * WxHub is one socket for all rooms, kept alive.
 *
 *     const hub = new WxHub({ url, getToken, transport: wxTransport(wx) })
 *     hub.join('notice', { onMessage, onReload })
 *     hub.connect()
 *     wx.onAppShow(() => hub.wake())
 *
 * disconnected → connecting → connected; a lost line goes back to connecting and tries again with full
 * jitter, or when the server said. Only close() and close codes from 4500 lead to disconnected.
 * After a reconnect each room goes on where it stood, in the same round trip; messages arrive in order and
 * once, and a gap that the history cannot fill is told by onReload.
 */
export class WxHub {
  state: State = 'disconnected'
  /** this connection's id and person, once welcomed */
  client = ''
  user = ''

  private readonly options: Required<HubOptions>
  private readonly rooms = new Map<string, Room>()
  private mailRoom: Room | undefined // its name is '' until the welcome says whose it is
  private readonly handlers: { [E in keyof HubEvents]: Set<(event: HubEvents[E]) => void> } = {
    state: new Set(), welcome: new Set(), push: new Set(), error: new Set(),
  }

  private session: Session | undefined
  private round = 0 // of tries; an older one that is still asking for its token ends when it sees another
  private brought = new Map<Room, Position | undefined>() // the rooms in the query of this try
  private freshToken = false
  private attempts = 0
  private failed = 0 // handshakes in a row without a close code
  private queryHelped = false // the last line came up with the token in the query only
  private hintUntil = 0 // the server asked us not to come back before
  private retryTimer: ReturnType<typeof setTimeout> | undefined
  private ackTimer: ReturnType<typeof setTimeout> | undefined
  private knockTimers = new Map<Room, ReturnType<typeof setTimeout>>() // rooms that could not be had

  constructor(options: HubOptions) {
    this.options = withDefaults(options)
  }

  /** Listens; the returned function ends it. */
  on<E extends keyof HubEvents>(event: E, handler: (event: HubEvents[E]) => void): () => void {
    this.handlers[event].add(handler)
    return () => void this.handlers[event].delete(handler)
  }

  /** Starts. While connecting or connected it does nothing. */
  connect(): void {
    if (this.state !== 'disconnected') return
    this.attempts = this.failed = this.hintUntil = 0
    this.become({ state: 'connecting' })
    void this.dial()
  }

  /** Ends the line and stays disconnected until connect(). Rooms and positions are kept. */
  close(): void {
    if (this.state === 'disconnected') return
    this.flushAcks()
    const session = this.session
    this.letGo()
    session?.close()
    this.become({ state: 'disconnected', reason: 'closed' })
  }

  /**
   * The app is back on the screen, or the network is. A pending retry happens now (not before the server's
   * own hint); an open line must answer within three seconds, since it may have died while we slept.
   */
  wake(): void {
    if (this.state === 'connected') return this.session?.probe(wakeWait)
    if (this.retryTimer === undefined || Date.now() < this.hintUntil) return
    this.attempts = 0
    this.retryIn(0)
  }

  /** The app goes to the background, where the network freezes after seconds: what waits is said now. */
  hide(): void {
    this.flushAcks()
  }

  /** Joins a room, at once or with the next line. `since` is a position kept from an earlier run. */
  join(name: string, handlers: RoomHandlers = {}, options: { since?: Position } = {}): Membership {
    let room = this.find(name)
    if (!room) {
      room = new Room(name, name.startsWith('user:'))
      room.position = options.since
      this.rooms.set(name, room)
      if (this.state === 'connected') this.knock(room)
    }
    return this.enter(room, handlers)
  }

  /**
   * Hears this person's own mail, which needs no join; call it before connect(). Mail is acknowledged by
   * itself as it is handed over, and what was not acknowledged comes again.
   */
  mail(handlers: RoomHandlers): Membership {
    if (!this.mailRoom) {
      this.mailRoom = new Room('', true)
      if (this.state === 'connected') this.session?.drop('mail') // mail flowed by; the next line brings it again
    }
    return this.enter(this.mailRoom, handlers)
  }

  publish(room: string, action: string, payload: unknown): Promise<Position> {
    return this.request<Position>('publish', { room, data: { action, payload } })
  }

  presence(room: string): Promise<Presence> {
    return this.request<Presence>('presence', { room })
  }

  history(room: string, query: HistoryQuery = {}): Promise<History> {
    return this.request<History>('history', { room, ...query })
  }

  /** See Membership.ack. */
  ack(name: string, offset: number): void {
    const room = this.find(name)
    if (!room || offset <= room.ackWanted) return
    room.ackWanted = offset
    this.ackTimer ??= setTimeout(() => this.flushAcks(), ackEvery)
  }

  /** Gives the open line a new token, so that it outlives the old one. Without `token`, getToken is asked. */
  async refresh(token?: string): Promise<void> {
    await this.request('refresh', { token: token ?? (await this.options.getToken(true)) })
  }

  /** Asks once the line is there; rejects with HubError: the server's word, "timeout" or "disconnected". */
  private async request<T>(action: string, fields: object): Promise<T> {
    if (this.state === 'connecting') await this.untilConnected()
    if (!this.session) throw new HubError('disconnected', 'the hub is disconnected')
    return (await this.session.ask(action, fields)) as unknown as T
  }

  private untilConnected(): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (error?: Error) => {
        clearTimeout(timer)
        off()
        if (error) reject(error)
        else resolve()
      }
      const timer = setTimeout(() => done(new HubError('timeout', 'no connection in time')), this.options.requestTimeout)
      const off = this.on('state', ({ state }) => {
        if (state === 'connected') done()
        if (state === 'disconnected') done(new HubError('disconnected', 'the hub is disconnected'))
      })
    })
  }

  // —— rooms

  private find(name: string): Room | undefined {
    return this.rooms.get(name) ?? (name && this.mailRoom?.name === name ? this.mailRoom : undefined)
  }

  private allRooms(): Room[] {
    return this.mailRoom ? [...this.rooms.values(), this.mailRoom] : [...this.rooms.values()]
  }

  private enter(room: Room, handlers: RoomHandlers): Membership {
    room.listeners.add(handlers)
    if (room.joined && room.position) {
      const standing = { ...room.standing, position: room.position }
      void Promise.resolve().then(() => this.guard(() => handlers.onJoin?.(standing)))
    }
    return {
      get room() {
        return room.name
      },
      leave: () => this.quit(room, handlers),
      publish: (action, payload) => this.publish(room.name, action, payload),
      presence: () => this.presence(room.name),
      history: (query) => this.history(room.name, query),
      ack: (offset) => this.ack(room.name, offset),
    }
  }

  private quit(room: Room, handlers: RoomHandlers): void {
    if (!room.listeners.delete(handlers) || room.listeners.size > 0 || room === this.mailRoom) return
    this.rooms.delete(room.name)
    this.session?.ask('leave', { room: room.name }).catch(() => undefined)
  }

  /** Asks to be let in on the open line. */
  private knock(room: Room): void {
    const session = this.session
    const since = room.position
    session?.ask('join', { room: room.name, ...(since && { since }) }).then(
      (reply) => {
        if (session === this.session) this.admit(room, reply as unknown as Standing, since)
      },
      (error: HubError) => {
        if (session !== this.session) return // the next line joins again
        if (error.error === 'unavailable' || error.error === 'timeout') return this.knockLater(room)
        this.each(room, (h) => h.onError?.(error))
      },
    )
  }

  /** The hub cannot look the room up just now: the line stays, and asks again. */
  private knockLater(room: Room): void {
    const wait = knockFrom * (1 + this.options.random())
    clearTimeout(this.knockTimers.get(room))
    this.knockTimers.set(room, setTimeout(() => {
      this.knockTimers.delete(room)
      if (!room.joined && this.find(room.name) === room) this.knock(room)
    }, wait))
  }

  private admit(room: Room, standing: Standing, brought: Position | undefined): void {
    const lost = room.settle(standing, brought)
    const position = { epoch: standing.epoch, offset: standing.offset }
    if (lost) this.each(room, (h) => h.onReload?.('lost'))
    this.each(room, (h) => h.onJoin?.({ ...room.standing, position }))
    // Who brings a position gets nothing from before it; without one, all that is unacknowledged comes.
    if (lost && room.mail) this.session?.drop('mail')
  }

  private pushed(push: Push): void {
    const room = this.find(push.meta.room)
    if (!room || this.deliver(room, push)) this.tell('push', push)
  }

  /** Reports whether the page got it. */
  private deliver(room: Room, push: Push): boolean {
    const { action, payload } = push.data
    if (!push.meta.offset && (action === 'join' || action === 'leave')) {
      const user = (payload as { user: string }).user
      this.each(room, (h) => h.onPresence?.({ action, user }))
      return true
    }
    if (room.isNewEpoch(push)) this.each(room, (h) => h.onReload?.('epoch'))
    let verdict = room.judge(push)
    if (verdict === 'gap') {
      if (!room.gapAgain()) {
        this.session?.drop('gap') // the next line brings the position and gets what lies between
        return false
      }
      this.each(room, (h) => h.onReload?.('gap'))
      room.jumpTo(push)
      verdict = room.judge(push)
    }
    if (verdict === 'deliver') this.each(room, (h) => h.onMessage?.(push))
    if (room.mail && push.meta.offset) this.ack(room.name, push.meta.offset)
    return verdict === 'deliver'
  }

  private flushAcks(): void {
    clearTimeout(this.ackTimer)
    this.ackTimer = undefined
    if (this.state !== 'connected') return // the welcome sends them
    for (const room of this.allRooms()) {
      const offset = room.ackWanted
      if (offset <= room.ackSent) continue
      const before = room.ackSent
      room.ackSent = offset
      this.session?.ask('ack', { room: room.name, offset }).catch(() => {
        if (room.ackSent === offset) room.ackSent = before
      })
    }
  }

  // —— the line

  private async dial(): Promise<void> {
    const round = ++this.round
    this.retryTimer = undefined
    let token: string
    try {
      token = await this.options.getToken(this.freshToken)
    } catch (error) {
      if (round !== this.round) return
      this.tell('error', asError(error))
      return this.lost(undefined, 'no_token')
    }
    if (round !== this.round) return
    this.freshToken = false
    const session: Session = new Session(this.options.transport, this.target(token), this.options, {
      welcome: (welcome) => this.welcomed(session, welcome),
      push: (push) => this.pushed(push),
      joined: (standing) => {
        const room = this.find(standing.room)
        if (room && !room.joined) this.admit(room, standing, this.brought.get(room))
      },
      end: (code, reason, shook) => {
        if (!shook && code === undefined) {
          this.failed++
          this.freshToken = true // the platform does not tell a 401 from a dead network
        }
        this.lost(code, reason)
      },
      error: (error) => this.tell('error', asError(error)),
    })
    if (round === this.round) this.session = session // unless the transport has failed it at once
  }

  private target(token: string): Target {
    const { url } = this.options
    let { tokenIn } = this.options
    if (tokenIn === 'auto') {
      const over = this.failed - (this.queryHelped ? 1 : 2)
      tokenIn = over >= 0 && over % 2 === 0 ? 'query' : 'protocol'
    }
    const query = tokenIn === 'query' ? [`token=${encodeURIComponent(token)}`] : []
    this.brought.clear()
    for (const room of this.allRooms()) {
      if (!room.name) continue
      this.brought.set(room, room.position)
      const place = room.position ? `@${room.position.epoch}:${room.position.offset}` : ''
      query.push(`room=${encodeURIComponent(room.name + place)}`)
    }
    const base = (typeof url === 'function' ? url() : url).replace(/^http/, 'ws')
    const mark = base.includes('?') ? '&' : '?'
    return {
      url: query.length ? base + mark + query.join('&') : base,
      protocols: tokenIn === 'protocol' ? ['wxhub.v1', `bearer.${token}`] : [],
      header: tokenIn === 'header' ? { Authorization: `Bearer ${token}` } : {},
    }
  }

  private welcomed(session: Session, welcome: Welcome): void {
    this.client = welcome.client
    this.user = welcome.user
    this.queryHelped = this.failed >= (this.queryHelped ? 1 : 2)
    this.failed = 0
    const mailName = `user:${welcome.user}`
    if (this.mailRoom && this.mailRoom.name !== mailName) {
      this.brought.delete(this.mailRoom)
      this.mailRoom.rename(mailName)
    }
    this.become({ state: 'connected' })
    this.tell('welcome', welcome)
    const standings = new Map((welcome.rooms ?? []).map((standing) => [standing.room, standing]))
    for (const room of this.allRooms()) {
      if (session !== this.session) return // a handler closed the hub
      const standing = standings.get(room.name)
      // A room that was entered while the handshake ran, or that the query did not get into, asks by itself.
      if (standing && (this.brought.has(room) || !room.position)) this.admit(room, standing, this.brought.get(room))
      else this.knock(room)
    }
    this.flushAcks()
  }

  private lost(code: number | undefined, reason: string): void {
    const lived = this.session?.upSince ? Date.now() - this.session.upSince : 0
    this.letGo()
    const { word, retry } = parseReason(reason)
    if (staysAway(code)) return this.become({ state: 'disconnected', code, reason: word })
    if (lived >= stableAfter) this.attempts = 0
    if (code === CloseCode.tokenExpired) this.freshToken = true
    this.hintUntil = retry === undefined ? 0 : Date.now() + retry
    this.retryIn(retry ?? fullJitter(this.attempts++, this.options.backoff, this.options.random), code, word)
  }

  private retryIn(wait: number, code?: number, reason?: string): void {
    clearTimeout(this.retryTimer)
    this.retryTimer = setTimeout(() => void this.dial(), wait)
    this.become({ state: 'connecting', code, reason, retryIn: wait })
  }

  private letGo(): void {
    this.round++
    this.session = undefined
    clearTimeout(this.retryTimer)
    this.retryTimer = undefined
    for (const timer of this.knockTimers.values()) clearTimeout(timer)
    this.knockTimers.clear()
    for (const room of this.allRooms()) room.joined = false
  }

  // —— telling

  private become(change: StateChange): void {
    this.state = change.state
    this.tell('state', change)
  }

  private tell<E extends keyof HubEvents>(event: E, value: HubEvents[E]): void {
    const handlers = [...this.handlers[event]] as ((event: HubEvents[E]) => void)[]
    for (const handler of handlers) {
      if (event === 'error') handler(value)
      else this.guard(() => handler(value))
    }
  }

  private each(room: Room, call: (handlers: RoomHandlers) => void): void {
    for (const handlers of [...room.listeners]) this.guard(() => call(handlers))
  }

  /** A page's handler that throws must not stop the others, nor the socket. */
  private guard(call: () => void): void {
    try {
      call()
    } catch (error) {
      this.tell('error', asError(error))
    }
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
