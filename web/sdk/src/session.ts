import { HubError, type Push, type Standing, type Welcome } from './protocol'
import type { Line, Target, Transport } from './transport'

/** What a session reports. After `end` it reports nothing more. */
export interface SessionEvents {
  welcome(welcome: Welcome): void
  push(push: Push): void
  /** a room of the handshake that could not be had then is joined now, unasked */
  joined(standing: Standing): void
  /** `shook` is false when the handshake never succeeded. */
  end(code: number | undefined, reason: string, shook: boolean): void
  error(error: Error): void
}

export interface SessionLimits {
  /** milliseconds from the start to the welcome */
  connectTimeout: number
  /** milliseconds for an answer */
  requestTimeout: number
}

export type Reply = Record<string, unknown>

interface Question {
  resolve(reply: Reply): void
  reject(error: Error): void
  timer: ReturnType<typeof setTimeout>
}

/** Session is one line from its handshake to its end: questions and answers, heartbeats, silence. */
export class Session {
  /** when the welcome came; 0: not yet */
  upSince = 0
  private line: Line | undefined
  private shook = false
  private welcomed = false
  private ended = false
  private heard = 0
  private silence = 0 // milliseconds without a frame that make a dead line
  private nextId = 1
  private readonly questions = new Map<number, Question>()
  private watch: ReturnType<typeof setTimeout> | undefined // until welcomed: the handshake; then: silence
  private probing: ReturnType<typeof setTimeout> | undefined

  constructor(
    transport: Transport,
    target: Target,
    private readonly limits: SessionLimits,
    private readonly events: SessionEvents,
  ) {
    this.watch = setTimeout(() => this.drop('timeout'), limits.connectTimeout)
    try {
      this.line = transport(target, {
        open: () => void (this.shook = true),
        message: (text) => this.receive(text),
        close: (code, reason) => this.end(code, reason),
      })
    } catch (error) {
      events.error(error as Error)
      void Promise.resolve().then(() => this.end(undefined, '')) // after the owner has the session in hand
    }
  }

  /** Rejects with HubError: the server's word, "timeout" or "disconnected". */
  ask(action: string, fields: object = {}): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.ended || !this.welcomed) return reject(new HubError('disconnected', 'the hub is not connected'))
      const id = this.nextId++
      const timer = setTimeout(() => {
        this.questions.delete(id)
        reject(new HubError('timeout', `no answer to ${action}`))
      }, this.limits.requestTimeout)
      this.questions.set(id, { resolve, reject, timer })
      this.send({ id, action, ...fields })
    })
  }

  /** Replaces the line unless something is heard within `wait` milliseconds. */
  probe(wait: number): void {
    if (this.ended || this.probing !== undefined) return
    const before = this.heard
    this.ask('ping').catch(() => undefined)
    this.probing = setTimeout(() => {
      this.probing = undefined
      if (this.heard === before) this.drop('silent')
    }, wait)
  }

  /** Gives the line up and reports the end. */
  drop(reason: string): void {
    this.line?.close(4000, reason)
    this.end(undefined, reason)
  }

  /** Closes the line for good; nothing is reported. */
  close(): void {
    if (this.ended) return
    this.letGo()
    this.line?.close(1000, 'closed')
  }

  private receive(text: string): void {
    if (this.ended) return
    this.heard = Date.now()
    let frame: Reply
    try {
      frame = JSON.parse(text)
    } catch {
      return this.events.error(new Error(`hub: a frame that is no JSON: ${text.slice(0, 80)}`))
    }
    if (typeof frame !== 'object' || frame === null) return
    if ('reply' in frame) this.answered(frame)
    else if ('ping' in frame) this.send({ pong: frame.ping }) // any frame would do; this one asks for no reply
    else if (frame.meta && frame.data) this.pushed(frame as unknown as Push)
  }

  private answered({ reply: id, ok, ...fields }: Reply): void {
    if (id === null && ok && fields.room) return this.events.joined(fields as unknown as Standing)
    const question = this.questions.get(id as number)
    if (!question) return
    this.questions.delete(id as number)
    clearTimeout(question.timer)
    if (ok) return question.resolve(fields)
    const word = String(fields.error ?? 'refused')
    question.reject(new HubError(word, String(fields.message ?? word)))
  }

  private pushed(push: Push): void {
    if (this.welcomed) return this.events.push(push)
    if (push.data.action !== 'welcome') return
    const welcome = push.data.payload as Welcome
    this.welcomed = true
    this.upSince = Date.now()
    this.silence = 2000 * (welcome.heartbeat || 25)
    clearTimeout(this.watch)
    this.listen(this.silence)
    this.events.welcome(welcome)
  }

  /** One timer, however many frames: it looks when the newest one came. */
  private listen(wait: number): void {
    this.watch = setTimeout(() => {
      const left = this.heard + this.silence - Date.now()
      if (left > 0) this.listen(left)
      else this.drop('silent')
    }, wait)
  }

  private send(frame: object): void {
    try {
      this.line?.send(JSON.stringify(frame))
    } catch (error) {
      this.events.error(error as Error) // a line that cannot send is about to report its end
    }
  }

  private end(code: number | undefined, reason: string): void {
    if (this.ended) return
    this.letGo()
    this.events.end(code, reason, this.shook)
  }

  private letGo(): void {
    this.ended = true
    clearTimeout(this.watch)
    clearTimeout(this.probing)
    const open = [...this.questions.values()]
    this.questions.clear()
    for (const question of open) {
      clearTimeout(question.timer)
      question.reject(new HubError('disconnected', 'the line was lost before an answer'))
    }
  }
}
