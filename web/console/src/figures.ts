// The hub's figures of the last minutes, asked every two seconds while somebody is logged in and looks.
import { useSyncExternalStore } from 'react'
import { admin, type Refusal, type Stats } from './api'
import { asRefusal } from './asking'
import { onSession, token } from './session'

const every = 2000
const kept = 150 // five minutes

/** One moment. Rates are per second since the moment before, null when there is none to compare with. */
export interface Sample {
  at: number
  stats: Stats
  publishedRate: number | null
  deliveredRate: number | null
}

export interface Figures {
  samples: Sample[]
  failure?: Refusal
}

/** Puts a new answer behind the samples. Counters that went back mean another process: no rate, no jump. */
export function sampled(samples: Sample[], stats: Stats, at: number): Sample[] {
  const before = samples.at(-1)
  const seconds = before ? (at - before.at) / 1000 : 0
  const rate = (now: number, then: number) => (seconds > 0 && seconds < 30 && now >= then ? (now - then) / seconds : null)
  const restarted = !before || stats.uptime < before.stats.uptime || stats.published < before.stats.published || stats.delivered < before.stats.delivered
  const next: Sample = {
    at, stats,
    publishedRate: restarted ? null : rate(stats.published, before.stats.published),
    deliveredRate: restarted ? null : rate(stats.delivered, before.stats.delivered),
  }
  return [...samples.slice(1 - kept), next]
}

let figures: Figures = { samples: [] }
let busy = false
const listeners = new Set<() => void>()

async function ask() {
  if (busy || !token() || document.hidden) return
  busy = true
  try {
    const stats = await admin.stats()
    figures = { samples: sampled(figures.samples, stats, Date.now()) }
  } catch (error) {
    figures = { ...figures, failure: asRefusal(error) }
  } finally {
    busy = false
  }
  for (const listener of listeners) listener()
}

setInterval(ask, every)
onSession(() => {
  if (!token()) figures = { samples: [] }
  else void ask()
})
document.addEventListener('visibilitychange', () => void ask())
void ask()

export const askFigures = () => void ask()

export function useFigures(): Figures {
  return useSyncExternalStore(
    (listener) => (listeners.add(listener), () => listeners.delete(listener)),
    () => figures,
  )
}
