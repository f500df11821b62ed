// The payload of a broadcast: any JSON, checked while it is typed and shown as a phone would.

export type Checked = { ok: true; value: unknown } | { ok: false; line: number; column: number }

/** Reads JSON. Of text that is none it says where it stops making sense; both count from 1. */
export function checkJSON(text: string): Checked {
  try {
    return { ok: true, value: JSON.parse(text) }
  } catch {
    const before = text.slice(0, senseEnds(text)).split('\n')
    return { ok: false, line: before.length, column: before.at(-1)!.length + 1 }
  }
}

const blank = /[ \t\r\n]*/y
const scalar = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y

/** Where text stops being the beginning of JSON. Browsers no longer tell. */
function senseEnds(text: string): number {
  let at = 0
  const skip = () => ((blank.lastIndex = at), blank.test(text), (at = blank.lastIndex))
  const take = (c: string) => (skip(), text[at] === c && ++at > 0)
  const one = () => {
    skip()
    scalar.lastIndex = at
    const match = scalar.exec(text)
    at += match?.[0].length ?? 0
    return match?.[0]
  }
  const items = (end: string, item: () => boolean): boolean => {
    if (take(end)) return true
    do if (!item()) return false
    while (take(','))
    return take(end)
  }
  const member = () => (skip(), text[at] === '"' && one() !== undefined && take(':') && value())
  const value = (): boolean => (take('{') ? items('}', member) : take('[') ? items(']', value) : one() !== undefined)
  if (value()) skip()
  return at
}

/** What a phone shows of a push: a purchase in its sentence, a title and text, or the JSON itself. */
export type Preview =
  | { kind: 'purchase'; buyer: string; product: string; quantity: number }
  | { kind: 'text'; title: string; text: string }
  | { kind: 'json'; text: string }

export function preview(payload: unknown): Preview {
  if (typeof payload === 'string') return { kind: 'text', title: '', text: payload }
  if (typeof payload === 'object' && payload !== null) {
    const p = payload as Record<string, unknown>
    const word = (...names: string[]) => names.map((n) => p[n]).find((v): v is string => typeof v === 'string' && v !== '') ?? ''
    const product = word('product', 'description', 'body')
    if (product && (word('buyer', 'name', 'nickname') || 'quantity' in p))
      return { kind: 'purchase', buyer: word('buyer', 'name', 'nickname'), product, quantity: typeof p.quantity === 'number' ? p.quantity : 1 }
    const text = word('text', 'content', 'message', 'body')
    if (text || word('title')) return { kind: 'text', title: word('title'), text }
  }
  return { kind: 'json', text: JSON.stringify(payload) ?? '' }
}

/** The names typed or pasted in one go: commas (of both kinds), blanks and line ends part them. */
export function names(text: string): string[] {
  return [...new Set(text.split(/[\s,，;；、]+/).filter(Boolean))]
}
