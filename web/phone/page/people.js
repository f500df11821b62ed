// Who holds the phones. Each browser gets its own people, and remembers them.
import { store, stored } from './words.js'

const names = ['张小雨', '李明远', '王若溪', '陈阿杰', '林初夏', '周子墨', '许知南', '何青柠', '苏星野', '沈木子', '顾云舟', '宋满']

const key = (side) => `wxhub.phone.${side}`

/** The person of a phone: as the address asks (?left=NAME, ?right=NAME, ?user=NAME), as remembered, or a new one. */
export function personOf(side, other) {
  const query = new URLSearchParams(location.search)
  const asked = query.get(side) ?? (side === 'left' ? query.get('user') : null)
  if (asked) return { id: asked.slice(0, 64) }
  try {
    const person = JSON.parse(stored(key(side)))
    if (typeof person.id === 'string' && typeof person.name === 'string') return person
  } catch {
    // nothing remembered
  }
  return newPerson(side, other)
}

/** Somebody else than `other`, remembered for this side. */
export function newPerson(side, ...others) {
  const free = names.filter((name) => !others.some((other) => other?.name === name))
  const person = { id: `phone-${random()}`, name: free[Math.floor(Math.random() * free.length)] }
  store(key(side), JSON.stringify(person))
  return person
}

function random() {
  return [...crypto.getRandomValues(new Uint8Array(5))].map((byte) => byte.toString(36).padStart(2, '0')).join('')
}
