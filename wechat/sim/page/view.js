'use strict'
// Small builders of the page; no state.
const $ = id => document.getElementById(id)

function el(tag, props, ...children) {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === 'data') Object.assign(e.dataset, value)
    else if (name in e) e[name] = value
    else e.setAttribute(name, value)
  }
  e.append(...children.flat().filter(c => c !== null && c !== undefined && c !== false))
  return e
}

const two = n => String(n).padStart(2, '0')
function clockTime(ms) {
  const d = new Date(ms), today = new Date().toDateString() === d.toDateString()
  const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`
  return today ? time : `${d.getMonth() + 1}-${d.getDate()} ${time}`
}
const yuan = fen => `¥${(fen / 100).toFixed(2)}`

function pill(text, tone) { return el('span', { className: `pill ${tone ?? ''}` }, text) }

function httpPill(status, none) {
  if (!status) return pill(none, 'bad')
  return pill(String(status), status < 300 ? 'good' : status < 500 ? 'warn' : 'bad')
}

// signedText shows a text with its line feeds visible, as what is signed depends on them.
function signedText(text) {
  const pre = el('pre', { className: 'signed' })
  text.split('\n').forEach((line, i, all) => {
    pre.append(line)
    if (i < all.length - 1) pre.append(el('span', { className: 'nl' }, '↵'), '\n')
  })
  return pre
}

// pretty indents JSON as text, because numbers beyond 2^53 must stay as they came.
function pretty(text) {
  const t = text.trim()
  if (!/^[[{]/.test(t)) return text
  let out = '', depth = 0, quoted = false
  for (let i = 0; i < t.length; i++) {
    const c = t[i]
    if (quoted) {
      out += c
      if (c === '\\') out += t[++i] ?? ''
      else if (c === '"') quoted = false
    } else if (c === '"') {
      quoted = true
      out += c
    } else if (c === '{' || c === '[') {
      if (t[i + 1] === (c === '{' ? '}' : ']')) { out += c + t[++i]; continue }
      out += c + '\n' + '  '.repeat(++depth)
    } else if (c === '}' || c === ']') out += '\n' + '  '.repeat(depth = Math.max(0, depth - 1)) + c
    else if (c === ',') out += ',\n' + '  '.repeat(depth)
    else if (c === ':') out += ': '
    else if (!/\s/.test(c)) out += c
  }
  return out
}

function facts(pairs) {
  return el('dl', {}, pairs.filter(([, v]) => v !== undefined && v !== null && v !== '').flatMap(([name, v, mono]) =>
    [el('dt', {}, name), el('dd', { className: mono ? 'mono' : '' }, v)]))
}

function field(word, input) { return el('label', { className: 'field' }, el('span', {}, word), input) }

function options(select, list, chosen) {
  for (const [value, word] of list) select.append(el('option', { value, selected: value === chosen }, word))
  return select
}
