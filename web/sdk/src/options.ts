import type { Backoff } from './backoff'
import type { History, HistoryQuery, Position, Presence, Push, Welcome } from './protocol'
import type { Transport } from './transport'

export type State = 'disconnected' | 'connecting' | 'connected'

/** A change of state, with what caused it. */
export interface StateChange {
  state: State
  /** the close code; undefined when there was none */
  code?: number
  /** the close reason's word, or ours: "silent", "timeout", "gap", "mail", "no_token", "closed" */
  reason?: string
  /** milliseconds until the next try, while connecting */
  retryIn?: number
}

export interface HubEvents {
  state: StateChange
  welcome: Welcome
  /** every push that is not a repeat, after the room's own handlers */
  push: Push
  /** a fault that is nobody's answer: a handler that threw, a frame that is no JSON, a token that did not come */
  error: Error
}

export interface HubOptions {
  /** `wss://hub.example/ws`; http(s) is understood as ws(s). A function is asked before each try. */
  url: string | (() => string)
  /** The token. `fresh`: the last one was refused or may be dead, get a new one. */
  getToken(fresh: boolean): string | Promise<string>
  transport: Transport
  /**
   * Where the token travels. `auto` (default): as a subprotocol, and after two handshakes that failed
   * every other try in the query, for networks that lose the header. Queries end up in the logs of proxies.
   */
  tokenIn?: 'auto' | 'protocol' | 'header' | 'query'
  /** waits between tries; default 1 s doubling to 30 s, fully jittered */
  backoff?: Backoff
  /** milliseconds from the start to the welcome; default 10 000 */
  connectTimeout?: number
  /** milliseconds for an answer; default 10 000 */
  requestTimeout?: number
  /** for tests; default Math.random */
  random?: () => number
}

/** What join() gives. The room is left when its last membership ends. */
export interface Membership {
  readonly room: string
  leave(): void
  publish(action: string, payload: unknown): Promise<Position>
  presence(): Promise<Presence>
  history(query?: HistoryQuery): Promise<History>
  /** Says that this user received everything up to `offset`; sent at most once a second. Mail does it by itself. */
  ack(offset: number): void
}

/** The options with what was left out. */
export function withDefaults(options: HubOptions): Required<HubOptions> {
  return {
    tokenIn: 'auto',
    backoff: { base: 1000, cap: 30000 },
    connectTimeout: 10000,
    requestTimeout: 10000,
    random: Math.random,
    ...options,
  }
}
