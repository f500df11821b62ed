// What goes over the wire: one JSON object per text frame.

/** A place in the stream of one room. Offsets of two epochs have nothing to do with each other. */
export interface Position {
  epoch: string
  /** of the newest message seen; 0: none yet */
  offset: number
}

/** What the server says about a message. */
export interface Meta {
  room: string
  /** absent on what is said live only (join, leave): it is not kept and has no place in the stream */
  epoch?: string
  offset?: number
  /** names the message: the page gets one id of a room once */
  id?: string
  /** milliseconds */
  timestamp: number
  /** the connection that said it; absent: the server */
  client?: string
  /** the event name that a Socket.IO client chose */
  target?: string
}

/** A message as it arrives. */
export interface Push<P = unknown> {
  meta: Meta
  data: { action: string; payload: P }
}

/** Where a room stands, in the welcome and in the reply to a join. */
export interface Standing extends Position {
  room: string
  /** true: everything after the position brought follows, in order; false: start afresh */
  recovered?: boolean
  /** how many messages follow */
  missed?: number
}

/** The payload of the first frame. */
export interface Welcome {
  /** this connection's id */
  client: string
  user: string
  /** seconds: silence of twice that is a dead line */
  heartbeat: number
  rooms: Standing[]
}

/** Who is in a room. `users` stands only where the room's rule tells ids. */
export interface Presence {
  count: number
  users?: { id: string; sockets: number }[]
}

/** What to read of a room's stream: the newest messages, those after `since`, or the last ones before `before`. */
export interface HistoryQuery {
  /** default 50, at most 300 */
  limit?: number
  since?: Position
  before?: Position
}

/** A piece of a room's stream, oldest first; the position is that of the room's newest message. */
export interface History extends Position {
  /** offset of the oldest message that is kept: paging backwards ends there */
  first: number
  /** false: messages between the position asked from and these are lost, or it was of another epoch and these are the newest */
  complete: boolean
  messages: Push[]
}

/** Close codes. Below 4500 the client comes back, from 4500 it stays away. */
export const CloseCode = {
  restart: 1012,
  fault: 1011,
  tooBig: 1009,
  tokenExpired: 4401,
  silent: 4408,
  slow: 4413,
  tooMany: 4429,
  abuse: 4500,
  tokenBad: 4501,
  blocked: 4503,
  replaced: 4509,
} as const

/** Whether a close code tells the client to stay away. */
export function staysAway(code: number | undefined): boolean {
  return code !== undefined && code >= 4500
}

/** Reads a close reason: `word` or `word;retry=MS`. */
export function parseReason(reason: string): { word: string; retry?: number } {
  const [word = '', ...fields] = reason.split(';')
  for (const field of fields) {
    const [key, value = ''] = field.split('=')
    if (key === 'retry' && /^\d{1,9}$/.test(value)) return { word, retry: Number(value) }
  }
  return { word }
}

/** Something that was asked for and refused, or got no answer. */
export class HubError extends Error {
  /** the server's word ("forbidden", "too_many", …), or ours: "disconnected", "timeout" */
  readonly error: string

  constructor(error: string, message: string) {
    super(message)
    this.name = 'HubError'
    this.error = error
  }
}
