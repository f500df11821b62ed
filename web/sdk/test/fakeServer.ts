import type { LineEvents, Push, Standing, Target, Transport } from '../src/index'

/** One line as the server sees it. */
export class ServerLine {
  readonly received: Record<string, any>[] = []
  closed: { code: number; reason: string } | undefined

  constructor(
    private readonly server: FakeServer,
    readonly target: Target,
    private readonly events: LineEvents,
  ) {}

  /** What the query says, without the escapes. */
  get query(): string[] {
    return (this.target.url.split('?')[1] ?? '').split('&').filter(Boolean).map(decodeURIComponent)
  }

  /** The actions received, in order, without heartbeats. */
  get actions(): string[] {
    return this.received.map((frame) => frame.action)
  }

  open(): void {
    this.events.open()
  }

  send(frame: object): void {
    this.events.message(JSON.stringify(frame))
  }

  raw(text: string): void {
    this.events.message(text)
  }

  /** Opens and says where each room stands; rooms not named here are not joined. */
  welcome(rooms: Standing[] = [], more: { user?: string; heartbeat?: number } = {}): this {
    this.open()
    this.send({
      meta: { timestamp: Date.now() },
      data: { action: 'welcome', payload: { client: `c${this.server.lines.length}`, user: 'ann', heartbeat: 25, rooms, ...more } },
    })
    return this
  }

  push(room: string, offset: number, more: { epoch?: string; id?: string; action?: string; payload?: unknown } = {}): void {
    const { epoch = 'e1', id = `${room}-${epoch}-${offset}`, action = 'purchase', payload = { n: offset } } = more
    const push: Push = { meta: { room, epoch, offset, id, timestamp: Date.now() }, data: { action, payload } }
    this.send(push)
  }

  /** Answers the newest question of that action. */
  reply(action: string, fields: object = {}): void {
    const asked = this.received.filter((frame) => frame.action === action && frame.id !== undefined).pop()
    if (!asked) throw new Error(`nobody asked ${action}`)
    this.send({ reply: asked.id, ok: true, ...fields })
  }

  end(code?: number, reason = ''): void {
    this.events.close(code, reason)
  }

  client() {
    return {
      send: (text: string) => void this.received.push(JSON.parse(text)),
      close: (code: number, reason: string) => void (this.closed = { code, reason }),
    }
  }
}

/** A hub that does what the test says: each line that a client opens is put in `lines`. */
export class FakeServer {
  readonly lines: ServerLine[] = []

  readonly transport: Transport = (target, events) => {
    const line = new ServerLine(this, target, events)
    this.lines.push(line)
    return line.client()
  }

  get line(): ServerLine {
    const line = this.lines[this.lines.length - 1]
    if (!line) throw new Error('no client came')
    return line
  }
}
