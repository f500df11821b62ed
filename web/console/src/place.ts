// Where in the console: the part of the address after #, "/rooms/notice" is page rooms, about notice.
import { useSyncExternalStore } from 'react'

export const pages = ['overview', 'rooms', 'broadcast', 'orders', 'inbox', 'users', 'messages', 'fallbacks', 'links', 'alarms'] as const
export type Page = (typeof pages)[number]

export interface Place {
  page: Page
  /** a room, an order's number, a conversation, a user or a message; may be empty */
  about: string
  query: URLSearchParams
}

export function parsePlace(hash: string): Place {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?', 2)
  const slash = path.indexOf('/')
  const page = slash < 0 ? path : path.slice(0, slash)
  const known = (pages as readonly string[]).includes(page)
  let about = known && slash > 0 ? path.slice(slash + 1) : ''
  try {
    about = decodeURIComponent(about)
  } catch {
    // somebody typed a lone %: take it as it stands
  }
  return { page: known ? (page as Page) : 'overview', about, query: new URLSearchParams(known ? query : '') }
}

export function href(page: Page, about = '', query: Record<string, string> = {}): string {
  const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v))
  return `#/${page}${about ? '/' + encodeURIComponent(about) : ''}${q.size ? '?' + q : ''}`
}

export function go(to: string, replace = false) {
  if (replace) location.replace(to)
  else location.hash = to
}

export function usePlace(): Place {
  const hash = useSyncExternalStore(
    (listener) => (addEventListener('hashchange', listener), () => removeEventListener('hashchange', listener)),
    () => location.hash,
  )
  return parsePlace(hash)
}
