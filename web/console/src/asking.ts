// How a page asks: at once, again when asked to, and every so often while somebody looks.
import { useCallback, useEffect, useRef, useState } from 'react'
import { Refusal } from './api'

export interface Asked<T> {
  data: T | undefined
  /** of the newest try; data of an earlier one stays */
  failure: Refusal | undefined
  loading: boolean
  /** Asks now. While a question is under way another one follows it. */
  again: () => void
  change: (edit: (data: T) => T) => void
}

export const asRefusal = (error: unknown) =>
  error instanceof Refusal ? error : new Refusal(0, 'internal', error instanceof Error ? error.message : String(error))

/**
 * Asks `question` whenever `about` changes, then every `every` milliseconds (0: only then) while the tab is seen.
 * One question at a time: a slow hub is not asked faster than it answers.
 */
export function useAsked<T>(about: string, question: (signal: AbortSignal) => Promise<T>, every = 0): Asked<T> {
  const [state, setState] = useState<{ about: string; data?: T; failure?: Refusal; loading: boolean }>({ about, loading: true })
  const newest = useRef(question)
  useEffect(() => {
    newest.current = question
  })
  const poke = useRef(() => {})
  useEffect(() => {
    const end = new AbortController()
    let busy = false
    let wanted = false
    const ask = async () => {
      if (busy) {
        wanted = true
        return
      }
      busy = true
      do {
        wanted = false
        try {
          const data = await newest.current(end.signal)
          if (!end.signal.aborted) setState({ about, data, loading: false })
        } catch (error) {
          if (!end.signal.aborted) setState((s) => ({ about, data: s.about === about ? s.data : undefined, failure: asRefusal(error), loading: false }))
        }
      } while (wanted && !end.signal.aborted)
      busy = false
    }
    poke.current = () => void ask()
    setState((s) => (s.about === about ? s : { about, loading: true }))
    void ask()
    const timer = every > 0 ? setInterval(() => document.hidden || void ask(), every) : undefined
    const seen = () => document.hidden || (every > 0 && void ask())
    document.addEventListener('visibilitychange', seen)
    return () => {
      end.abort()
      clearInterval(timer)
      document.removeEventListener('visibilitychange', seen)
    }
  }, [about, every])
  const again = useCallback(() => poke.current(), [])
  const change = useCallback((edit: (data: T) => T) => setState((s) => (s.data === undefined ? s : { ...s, data: edit(s.data) })), [])
  const fresh = state.about === about
  return { data: fresh ? state.data : undefined, failure: fresh ? state.failure : undefined, loading: !fresh || state.loading, again, change }
}

/** Something that is done by a click: its failure, and whether it is under way. */
export function useDoing() {
  const [state, setState] = useState<{ busy: boolean; failure?: Refusal }>({ busy: false })
  const run = useCallback(async <T,>(what: () => Promise<T>): Promise<T | undefined> => {
    setState({ busy: true })
    try {
      const result = await what()
      setState({ busy: false })
      return result
    } catch (error) {
      setState({ busy: false, failure: asRefusal(error) })
      return undefined
    }
  }, [])
  const clear = useCallback(() => setState({ busy: false }), [])
  return { ...state, run, clear }
}
