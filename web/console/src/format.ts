// Times are milliseconds since 1970; numbers are shown with at most four digits that matter.
import type { Language } from './words'

const locales = { zh: 'zh-CN', en: 'en-GB' }

/** "11-21 14:03", with the year when it is another one */
export function moment(at: number, now = Date.now()): string {
  const d = new Date(at)
  const two = (n: number) => String(n).padStart(2, '0')
  const day = `${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}`
  return d.getFullYear() === new Date(now).getFullYear() ? day : `${d.getFullYear()}-${day}`
}

/** "14:03:07" */
export function clock(at: number): string {
  return new Date(at).toTimeString().slice(0, 8)
}

/** The whole of it, for a title. */
export function fullTime(at: number, lang: Language): string {
  return new Date(at).toLocaleString(locales[lang], { dateStyle: 'full', timeStyle: 'medium' })
}

/** "2 d 3 h", "47 h 5 min", "12 s": two units at most */
export function span(ms: number, lang: Language): string {
  const s = Math.max(0, Math.floor(ms / 1000))
  const units: [number, string, string][] = [[86400, ' d', ' 天'], [3600, ' h', ' 小时'], [60, ' min', ' 分'], [1, ' s', ' 秒']]
  const first = s >= 3 * 86400 ? 0 : s >= 3600 ? 1 : s >= 60 ? 2 : 3
  let rest = s
  const said: string[] = []
  for (const [size, en, zh] of units.slice(first, first + 2)) {
    const n = Math.floor(rest / size)
    rest -= n * size
    if (n > 0 || said.length === 0) said.push(`${n}${lang === 'zh' ? zh : en}`)
    if (first === 2) break // seconds do not matter beside minutes
  }
  return said.join(' ')
}

/** 1234567 → "1.23M" (en), "123.5万" (zh); below ten thousand every digit; rates keep one decimal below 100 */
export function figure(n: number, lang: Language): string {
  if (!Number.isFinite(n)) return '–'
  if (Math.abs(n) < 10_000) return Number.isInteger(n) || Math.abs(n) >= 100 ? String(Math.round(n)) : n.toFixed(1)
  return new Intl.NumberFormat(lang === 'zh' ? 'zh-CN' : 'en-US', { notation: 'compact', maximumSignificantDigits: 4 }).format(n)
}
