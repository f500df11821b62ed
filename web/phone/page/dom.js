// Small tools for the page: making elements, drawing icons, showing money and time.

/** h('button', { class: 'x', onclick }, 'text', child) makes an element. Attributes that are null are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.filter((child) => child !== null && child !== undefined))
  return element
}

const paths = {
  shop: 'M4 9l1.2-4.2A1 1 0 0 1 6.2 4h11.6a1 1 0 0 1 1 .8L20 9M4 9a2.7 2.7 0 0 0 5.3 0 2.7 2.7 0 0 0 5.4 0A2.7 2.7 0 0 0 20 9M5.5 12v7a1 1 0 0 0 1 1h11a1 1 0 0 0 1-1v-7',
  feed: 'M6 10a6 6 0 0 1 12 0c0 5 2 6 2 7H4c0-1 2-2 2-7zM10 20a2.2 2.2 0 0 0 4 0',
  chat: 'M12 4c4.7 0 8.5 3.1 8.5 7s-3.8 7-8.5 7c-.9 0-1.8-.1-2.6-.3L5 20l1-3.4C4.5 15.3 3.5 13.3 3.5 11c0-3.9 3.8-7 8.5-7zM8.6 11h.01M12 11h.01M15.4 11h.01',
  me: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20.5c.6-3.8 3.7-5.7 7.5-5.7s6.9 1.9 7.5 5.7',
  send: 'M4 12l16-7-5 15-3.5-6z',
  close: 'M6 6l12 12M18 6L6 18',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  horn: 'M4 10v4h3l6 4V6l-6 4zM17 9a4.5 4.5 0 0 1 0 6',
  plane: 'M11 3.5c.7-.9 1.6-.9 2 .2V9l8 5v2l-8-2.5V18l2 1.5V21l-3.5-1L8 21v-1.5l2-1.5v-4.5L2 16v-2l8-5V4.5z',
  people: 'M9 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM3.5 19c.4-3 2.7-4.5 5.5-4.5s5.1 1.5 5.5 4.5M15.5 5.3a3 3 0 0 1 0 5.4M17 14.8c2 .6 3.3 2 3.6 4.2',
}

/** An icon that says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('class', 'icon')
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS(svg.namespaceURI, 'path')
  path.setAttribute('d', paths[name])
  svg.append(path)
  return svg
}

/** Fen as yuan: 12800 → "128.00". */
export function yuan(fen) {
  return (fen / 100).toFixed(2)
}

/** A round letter in a colour of its own: the same name has the same colour. */
export function initial(name) {
  let hue = 0
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 360
  const element = h('span', { class: 'avatar', 'aria-hidden': 'true' }, [...name][0] ?? '?')
  element.style.setProperty('--hue', hue)
  return element
}
