// The one socket of this tab, with the admin's token, through the project's own client.
import { useEffect, useRef, useSyncExternalStore } from 'react'
import { WxHub, browserTransport, followPage, type RoomHandlers, type State } from 'wxhub'
import { onSession, token } from './session'

const listeners = new Set<() => void>()

const hub = new WxHub({
  url: () => new URL('/ws', location.href).href,
  getToken: () => token() ?? Promise.reject(new Error('logged out')),
  transport: browserTransport(),
})
hub.on('state', () => listeners.forEach((listener) => listener()))
followPage(hub)

let current: string | null = null
function follow() {
  const next = token()
  if (next === current) return
  if (current) hub.close()
  current = next
  if (next) hub.connect()
}
onSession(follow)
follow()

/** After the hub sent us away (replaced, blocked): try once more. */
export const reconnect = () => hub.connect()

/** How the line stands. */
export function useLine(): State {
  return useSyncExternalStore(
    (listener) => (listeners.add(listener), () => listeners.delete(listener)),
    () => hub.state,
  )
}

/** Is in `room` while the component is there; the handlers may change from one rendering to the next. */
export function useRoom(room: string, handlers: RoomHandlers) {
  const newest = useRef(handlers)
  useEffect(() => {
    newest.current = handlers
  })
  useEffect(() => {
    if (!room) return
    const membership = hub.join(room, {
      onMessage: (push) => newest.current.onMessage?.(push),
      onJoin: (standing) => newest.current.onJoin?.(standing),
      onReload: (reason) => newest.current.onReload?.(reason),
      onPresence: (change) => newest.current.onPresence?.(change),
      onError: (error) => newest.current.onError?.(error),
    })
    return () => membership.leave()
  }, [room])
}
