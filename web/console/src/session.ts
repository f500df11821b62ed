// Who is logged in here. The token lives as long as the tab: sessionStorage, nowhere else.
import { useSyncExternalStore } from 'react'

const key = 'wxhub.console.token'
const listeners = new Set<() => void>()

export interface Session {
  token: string | null
  /** the last one ended by itself: the hub no longer takes the token */
  ended: boolean
}

let session: Session = { token: kept(), ended: false }

/** Storage may be switched off; then a reload asks for the password again. */
function kept(): string | null {
  try {
    return sessionStorage.getItem(key)
  } catch {
    return null
  }
}

function become(next: Session) {
  session = next
  try {
    if (next.token) sessionStorage.setItem(key, next.token)
    else sessionStorage.removeItem(key)
  } catch {
    // not kept, then
  }
  for (const listener of listeners) listener()
}

export const logIn = (token: string) => become({ token, ended: false })
export const logOut = () => become({ token: null, ended: false })

/** The hub refused `token`. An answer to an older one ends nothing. */
export function refused(token: string | null) {
  if (token && token === session.token) become({ token: null, ended: true })
}

export const token = () => session.token

export function onSession(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const useSession = () => useSyncExternalStore(onSession, () => session)
