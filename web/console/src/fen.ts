// Amounts are integers of fen everywhere; yuan exist only where people read and type. No floating point in between.

/** 12800 → "128.00" */
export function yuan(fen: number): string {
  const sign = fen < 0 ? '-' : ''
  const whole = Math.abs(Math.trunc(fen))
  return `${sign}${Math.floor(whole / 100)}.${String(whole % 100).padStart(2, '0')}`
}

/** 12800 → "¥128.00", grouped from a thousand yuan on */
export function price(fen: number): string {
  const [whole, cents] = yuan(fen).split('.')
  return `¥${whole.replace(/\B(?=(\d{3})+$)/g, ',')}.${cents}`
}

/**
 * What a person typed as yuan, in fen: "128" → 12800, "1,280.5" → 128050, "¥3" → 300, full-width digits too.
 * undefined when it is no amount: more than two decimals, a sign, anything else.
 */
export function parseYuan(text: string): number | undefined {
  const plain = text.normalize('NFKC').replace(/^\s*[¥元]?\s*|\s*元?\s*$/g, '')
  const match = /^(\d{1,3}(?:,\d{3})+|\d{1,9})(?:\.(\d{1,2}))?$/.exec(plain)
  if (!match) return undefined
  return Number(match[1].replaceAll(',', '')) * 100 + Number((match[2] ?? '').padEnd(2, '0'))
}
