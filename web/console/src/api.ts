// The hub's admin calls. Times are milliseconds, amounts fen.
import { language } from './language'
import { refused, token } from './session'

/** A refusal: the hub's word and sentence, or "offline" when no answer came. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly word: string,
    message: string,
    /** seconds after which to come back; 0: not said */
    readonly retryAfter = 0,
  ) {
    super(message)
  }
}

export interface Stats {
  version: string
  uptime: number
  sockets: number
  users: number
  rooms: number
  published: number
  delivered: number
  dropped: number
  recovered: number
  notRecovered: number
  outbox: { waiting: number; dead: number; oldest?: number }
}

export interface Node {
  id: string
  version: string
  addr: string
  startedAt: number
  seenAt: number
  sockets: number
  users: number
  rooms: number
  /** published messages a second */
  rate: number
  self: boolean
}

export interface RoomRow {
  room: string
  users: number
  sockets: number
  epoch: string
  offset: number
}

export interface RoomView {
  room: string
  count: number
  users: { id: string; sockets: number }[] | null
  epoch: string
  offset: number
  messages: Push[]
}

export interface Push {
  meta: { room?: string; epoch?: string; offset?: number; id?: string; timestamp: number; client?: string; target?: string }
  data: { action: string; payload: unknown }
}

export interface Broadcast {
  rooms?: string[]
  users?: string[]
  live?: boolean
  all?: boolean
  action: string
  id?: string
}

export interface BroadcastResult {
  id: string
  results: { room: string; epoch?: string; offset?: number; error?: string }[]
}

export const orderStates = ['created', 'paying', 'paid', 'closed', 'refunding', 'refunded'] as const
export type OrderState = (typeof orderStates)[number]

export interface Order {
  outTradeNo: string
  state: OrderState
  total: number
  refunded: number
  description: string
  productId?: string
  quantity: number
  createdAt: number
  paidAt?: number
  late?: boolean
  userId: string
  transactionId?: string
  room?: string
}

export interface Refund {
  outRefundNo: string
  outTradeNo: string
  state: 'processing' | 'success' | 'closed' | 'abnormal'
  amount: number
  reason?: string
  createdAt: number
  doneAt?: number
}

export type Logistics = 'express' | 'city' | 'virtual' | 'pickup'

export interface Parcel {
  trackingNo?: string
  /** WeChat's code of the carrier */
  company?: string
  item?: string
  /** masked, which the carrier SF wants */
  contact?: string
}

export interface Shipping {
  outTradeNo: string
  state: 'waiting' | 'told' | 'failed' | 'received' | 'settled' | 'needless'
  logistics: Logistics
  complete: boolean
  parcels: Parcel[]
  by: string
  at: number
  toldAt?: number
  receivedAt?: number
  settledAt?: number
  reason?: string
}

export interface LinkWish {
  kind: 'link' | 'scheme'
  path?: string
  query?: string
  envVersion?: string
  days?: number
}

/** A letter of which nobody knows whether WeChat told it. */
export interface Doubt {
  user: string
  id: string
  action: string
  channel: string
  at: number
  gone: boolean
}

export interface Conversation {
  id: string
  user: string
  nickname: string
  lastAt: number
  lastText: string
  unread: number
  /** until when WeChat takes replies: 48 hours after the customer's last word; absent: no more */
  replyUntil?: number
}

export interface TalkItem {
  id: string
  /** user, staff, or rule: an answer that a rule gave */
  from: string
  type: string
  content?: string
  picUrl?: string
  title?: string
  pagePath?: string
  at: number
}

export interface Talk {
  id: string
  user: string
  nickname: string
  replyUntil?: number
  messages: TalkItem[]
}

export interface Alarm {
  id: string
  kind: string
  subject: string
  text: string
  /** what to do, in the reader's language */
  step: string
  firstAt: number
  lastAt: number
  times: number
  ackedAt?: number
  ackedBy?: string
  note?: string
}

export interface Reconciliation {
  day: string
  state: 'even' | 'uneven' | 'no_bill' | 'failing'
  reason?: string
  payments: number
  paid: number
  refunds: number
  refunded: number
  fee: number
  different: number
  at: number
  differences?: {
    what: 'missing_here' | 'missing_there' | 'amount' | 'transaction' | 'twice'
    outTradeNo?: string
    outRefundNo?: string
    transactionId?: string
    theirs: number
    ours: number
  }[]
}

export interface ReceiptStep {
  step: string
  at: number
  node?: string
  outcome?: string
  code?: number
  reason?: string
  report?: string
}

export interface Receipt {
  user: string
  offset: number
  action: string
  state: string
  reason?: string
  code?: number
  timeline: ReceiptStep[]
}

export type Count = 'stored' | 'relayed' | 'written' | 'acknowledged' | 'expired' | 'fallenBack' | 'unknown' | 'waiting' | 'held'

export interface MessageFate {
  id: string
  rooms?: { room: string; offset?: number; error?: string }[]
  counts: Record<Count, number>
  receipts: Receipt[]
  next?: string
}

export interface DeadRow {
  seq: number
  kind: string
  to: string
  id: string
  action: string
  attempts: number
  reason: string
  createdAt: number
  diedAt: number
}

export interface FallbackRule {
  action: string
  /** seconds */
  after: number
  within?: number
  quiet?: string
  zone?: string
  custom?: { text?: string; link?: { title: string }; card?: { title: string } }
  subscribe?: { template: string; page?: string; state?: string; data: Record<string, string> }
}

export interface Fallbacks {
  rules: FallbackRule[]
  /** false: they are those of the settings */
  saved: boolean
  version: number
  changedBy?: string
  changedAt?: number
}

export interface DryRun {
  result: 'online' | 'custom' | 'subscribe' | 'wait' | 'no_rule'
  at?: number
  quiet?: boolean
  reasons?: string[]
  online: boolean
  replies: number
  repliesUntil?: number
  grants: number
  custom?: unknown
  subscribe?: unknown
}

/** One call. Resolves with the answer's data, rejects with Refusal; a token that the hub no longer takes ends the session. */
async function call<T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object | string, signal?: AbortSignal): Promise<T> {
  const mine = token()
  const headers: Record<string, string> = { 'Accept-Language': language() === 'zh' ? 'zh-CN' : 'en' }
  if (mine) headers.Authorization = `Bearer ${mine}`
  if (body) headers['Content-Type'] = 'application/json'
  let response: Response
  try {
    response = await fetch(`/api/${path}`, {
      method, headers, body: typeof body === 'string' ? body : body && JSON.stringify(body), signal, cache: 'no-store', credentials: 'omit', keepalive: method !== 'GET' && (typeof body !== 'string' || body.length < 30_000), // browsers let 64 KiB outlive a page
    })
  } catch (error) {
    if (signal?.aborted) throw error
    throw new Refusal(0, 'offline', '')
  }
  const answer = (await response.json().catch(() => ({}))) as { code?: number; data?: T; message?: string; error?: string }
  if (answer.code === 1) return answer.data as T
  const word = answer.error ?? 'internal'
  // A hub that always answers 200 says it by the word alone.
  if (response.status === 401 || word === 'unauthorized' || word === 'bad_token' || word === 'token_expired') refused(mine)
  throw new Refusal(response.status, word, answer.message ?? '', Number(response.headers.get('Retry-After')) || 0)
}

const get = <T>(path: string, signal?: AbortSignal) => call<T>('GET', `admin/${path}`, undefined, signal)
const post = <T>(path: string, body: object | string = {}) => call<T>('POST', `admin/${path}`, body)
const part = encodeURIComponent

/** The query of what is set. */
function query(values: Record<string, string | number | undefined>): string {
  const set = Object.entries(values).filter(([, v]) => v !== undefined && v !== '')
  return set.length ? '?' + new URLSearchParams(set.map(([k, v]) => [k, String(v)])) : ''
}

export interface OrderFilter {
  userId?: string
  state?: OrderState | ''
  outTradeNo?: string
  before?: number
  limit?: number
}

export const admin = {
  /** The token is dead from then on, on every node. */
  logout: () => call<unknown>('POST', 'logout'),
  login: (username: string, password: string) => post<{ token: string; expiresIn: number }>('login', { username, password }),
  stats: (signal?: AbortSignal) => get<Stats>('stats', signal),
  nodes: (signal?: AbortSignal) => get<Node[]>('nodes', signal),
  rooms: (signal?: AbortSignal) => get<RoomRow[]>('rooms', signal),
  room: (room: string, signal?: AbortSignal) => get<RoomView>(`rooms/${part(room)}`, signal),
  /** `payload` is JSON as it was typed: it arrives byte for byte, and a long number stays what it is. */
  broadcast: (b: Broadcast, payload: string) => post<BroadcastResult>('broadcast', `${JSON.stringify(b).slice(0, -1)},"payload":${payload}}`),
  orders: (filter: OrderFilter, signal?: AbortSignal) => get<Order[]>(`orders${query({ ...filter })}`, signal),
  refunds: (outTradeNo: string, signal?: AbortSignal) => get<Refund[]>(`orders/${part(outTradeNo)}/refunds`, signal),
  refund: (outTradeNo: string, r: { amount?: number; reason?: string; outRefundNo?: string }) =>
    post<Refund>(`orders/${part(outTradeNo)}/refund`, r),
  conversations: (signal?: AbortSignal) => get<Conversation[]>('conversations', signal),
  conversation: (id: string, signal?: AbortSignal) => get<Talk>(`conversations/${part(id)}`, signal),
  /** undefined: nobody has said how it is delivered */
  shipping: (outTradeNo: string, signal?: AbortSignal) =>
    get<Shipping>(`orders/${part(outTradeNo)}/shipping`, signal).catch((e: unknown) => {
      if (e instanceof Refusal && e.word === 'not_found') return undefined
      throw e
    }),
  ship: (outTradeNo: string, s: { logistics: Logistics; parcels?: Parcel[] }) => post<Shipping>(`orders/${part(outTradeNo)}/shipping`, s),
  link: (l: LinkWish) => post<{ url: string; expiresAt: number }>('links', l),
  pathCode: (c: { path: string; square?: boolean; width?: number }) => post<{ img: string }>('qrcodes', c),
  typing: (id: string, typing: boolean) => post<unknown>(`conversations/${part(id)}/typing`, { typing }),
  /** `image` is base64 */
  replyPicture: (id: string, image: string) => post<{ id: string }>(`conversations/${part(id)}/reply`, JSON.stringify({ image })),
  doubts: (signal?: AbortSignal) => get<Doubt[]>('fallbacks/unknown', signal),
  decide: (id: string, user: string, what: 'again' | 'leave') => post<unknown>(`messages/${part(id)}/decision`, { user, do: what }),
  reply: (id: string, r: { text: string } | { link: { title: string; description: string; url: string; thumbUrl: string } }) =>
    post<{ id: string }>(`conversations/${part(id)}/reply`, r),
  alarms: (state: 'open' | 'all', signal?: AbortSignal) => get<Alarm[]>(`alarms${query({ state, limit: 100 })}`, signal),
  acknowledge: (id: string) => post<Alarm>(`alarms/${part(id)}/ack`),
  reconciliations: (signal?: AbortSignal) => get<Reconciliation[]>('reconciliations', signal),
  reconciliation: (day: string, signal?: AbortSignal) => get<Reconciliation>(`reconciliations/${part(day)}`, signal),
  reconcile: (day: string) => post<Reconciliation>(`reconciliations/${part(day)}`),
  message: (id: string, signal?: AbortSignal) => get<MessageFate>(`messages/${part(id)}`, signal),
  dead: (signal?: AbortSignal) => get<DeadRow[]>('outbox/dead', signal),
  retryDead: (seq: number) => post<unknown>(`outbox/dead/${seq}/retry`),
  fallbacks: (signal?: AbortSignal) => get<Fallbacks>('fallbacks', signal),
  saveFallbacks: (rules: FallbackRule[], version: number) => call<Fallbacks>('PUT', 'admin/fallbacks', { rules, version }),
  resetFallbacks: () => call<Fallbacks>('DELETE', 'admin/fallbacks'),
  dryRun: (user: string, action: string) => post<DryRun>('fallbacks/dry-run', { user, action }),
  disconnect: (id: string) => post<{ closed: number }>(`users/${part(id)}/disconnect`),
  block: (id: string) => post<{ blocked: boolean }>(`users/${part(id)}/block`),
  unblock: (id: string) => post<{ blocked: boolean }>(`users/${part(id)}/unblock`),
}
