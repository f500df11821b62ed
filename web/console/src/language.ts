// The language of this browser: chosen once, remembered, shared with the demo's phone page.
import { useSyncExternalStore } from 'react'
import { words, type Language, type Word } from './words'

const key = 'wxhub.lang'
const listeners = new Set<() => void>()
let lang: Language = remembered() ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en')
mark()

function remembered(): Language | undefined {
  try {
    const kept = localStorage.getItem(key)
    return kept === 'zh' || kept === 'en' ? kept : undefined
  } catch {
    return undefined
  }
}

function mark() {
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en'
  document.title = words.title[lang]
}

export const language = () => lang

export function setLanguage(next: Language) {
  lang = next
  try {
    localStorage.setItem(key, next)
  } catch {
    // not remembered, then
  }
  mark()
  for (const listener of listeners) listener()
}

/** The word in a language; {name} stands for a value. */
export function say(lang: Language, word: Word, values: Record<string, string | number> = {}): string {
  return words[word][lang].replace(/\{(\w+)\}/g, (blank, name: string) => String(values[name] ?? blank))
}

export type Say = (word: Word, values?: Record<string, string | number>) => string

export function useWords(): { lang: Language; t: Say } {
  const lang = useSyncExternalStore(
    (listener) => (listeners.add(listener), () => listeners.delete(listener)),
    language,
  )
  return { lang, t: (word, values) => say(lang, word, values) }
}
