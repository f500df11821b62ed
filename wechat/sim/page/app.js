'use strict'
// The page: a list per tab, a drawer with the details of one entry, and what people and WeChat can be made to do.
const tabs = ['orders', 'refunds', 'users', 'pushes', 'notifies', 'messages', 'calls', 'faults', 'play', 'setting']
const columns = {
  orders: ['madeAt', 'outTradeNo', 'version', 'description', 'total', 'refunded', 'user', 'state', 'delivery', 'notified', 'act'],
  refunds: ['madeAt', 'outRefundNo', 'outTradeNo', 'total', 'state', 'reason', 'notified', 'act'],
  users: ['name', 'nickname', 'openid', 'messagesCount', 'repliesLeft', 'granted', 'follows', 'act'],
  notifies: ['at', 'id', 'kind', 'outTradeNo', 'try', 'forge', 'status', 'answer', 'why', 'ms', 'act'],
  pushes: ['at', 'id', 'to', 'user', 'type', 'mode', 'try', 'forge', 'status', 'answer', 'why', 'ms', 'act'],
  messages: ['at', 'from', 'kind', 'user', 'type', 'content'],
  calls: ['at', 'method', 'path', 'status', 'code', 'note', 'ms', 'act'],
  faults: ['what', 'times'],
}
const wide = ['answer', 'why', 'content', 'note', 'description', 'reason', 'what'], mono = ['outTradeNo', 'outRefundNo', 'openid', 'path']
let lang = remembered() || (navigator.language.startsWith('zh') ? 'zh' : 'en'), state = null, drawn = '', open = null, away = false
let tab = tabs.includes(location.hash.slice(1)) ? location.hash.slice(1) : 'orders'
const say = word => words[lang][word] ?? word

function remembered() { try { return localStorage.getItem('sim.lang') } catch { return null } }

async function ask(method, path, body) {
  const r = await fetch(path, { method, body: body && JSON.stringify(body) })
  const v = await r.json()
  if (!r.ok) throw new Error(v.message ?? r.status)
  return v
}

let saidTimer = 0
function tell(text) {
  $('said').textContent = text
  $('said').hidden = false
  clearTimeout(saidTimer)
  saidTimer = setTimeout(() => { $('said').hidden = true }, 6000)
}

// act runs one thing on a button and tells what came of it.
async function act(button, what) {
  button.disabled = true
  try { tell(await what()) } catch (e) { tell(e.message) }
  button.disabled = false
  load()
}

const brief = v => {
  const a = v.answers?.[0] ?? v.answer
  if (!a) return v.note ?? 'ok'
  return a.status ? `${a.status} · ${a.ms} ms · ${a.reply?.content ?? (a.body || '(empty)')}` : `${say('noAnswer')}: ${a.error}`
}
const trigger = order => () => ask('POST', '/sim/trigger', order).then(brief)

function actButton(word, what, main) {
  const b = el('button', { type: 'button', className: main ? 'main' : '' }, say(word))
  b.onclick = e => { e.stopPropagation(); act(b, what) }
  return b
}

// What can be done with one row.
function actions(of, row) {
  const { outTradeNo, outRefundNo, name: user } = row
  switch (of) {
    case 'orders': {
      if (row.state === 'prepaid') return [actButton('payNow', trigger({ event: 'pay', outTradeNo }), true), actButton('mute', trigger({ event: 'muteNotify', outTradeNo }))]
      if (row.state !== 'paid') return []
      const list = [actButton('again', trigger({ event: 'pay', outTradeNo }))]
      if (row.delivery === 1) list.push(actButton('remindShip', trigger({ event: 'trade_manage_remind_shipping', user: row.user || 'x', outTradeNo })))
      if (row.delivery === 2 && row.user) list.push(actButton('receive', () => ask('POST', '/sim/receive', { user: row.user, outTradeNo }).then(() => say('delivery3'))))
      if (row.delivery === 3) list.push(actButton('settle', trigger({ event: 'trade_manage_order_settlement', user: row.user || 'x', outTradeNo })))
      return list
    }
    case 'refunds': return [actButton('again', trigger({ event: 'refund', outRefundNo }))]
    case 'users': {
      if (!user) return []
      const list = [actButton('enter', trigger({ event: 'user_enter_tempsession', user }))]
      if (state.mp) list.push(row.follows ? actButton('unfollow', trigger({ event: 'unfollow', user })) : actButton('follow', trigger({ event: 'follow', user })))
      return list
    }
    case 'pushes': case 'notifies': return [actButton('replay', replay(row.id, true))]
    case 'calls': return row.why ? [openButton(say('why'), { kind: 'exchange', id: row.id })] : []
  }
  return []
}

const replay = (id, fresh) => () => ask('POST', '/sim/replay', { id, fresh }).then(brief)

function openButton(text, what) {
  const b = el('button', { type: 'button', className: 'link' }, text)
  b.onclick = e => { e.stopPropagation(); show(what) }
  return b
}

const isProblem = {
  orders: r => ['given up', 'muted'].includes(r.notified) || r.state === 'expired', refunds: r => r.state === 'ABNORMAL' || r.notified === 'given up', users: () => false,
  pushes: r => Boolean(r.why), notifies: r => Boolean(r.why) || !r.done && !r.forge, messages: () => false, calls: r => Boolean(r.code) || r.status >= 400 || !r.status, faults: () => true,
}

// value renders one field of a row.
function value(of, row, name) {
  const v = row[name]
  switch (name) {
    case 'at': case 'madeAt': return clockTime(v)
    case 'id': return openButton('#' + v, { kind: 'exchange', id: v })
    case 'outTradeNo': return v ? openButton(v, { kind: 'order', id: v }) : ''
    case 'name': return v ? openButton(v, { kind: 'user', id: v }) : ''
    case 'total': return yuan(v)
    case 'refunded': return v ? yuan(v) : ''
    case 'state': return pill(say(v), { paid: 'good', SUCCESS: 'good', prepaid: 'warn', PROCESSING: 'warn', ABNORMAL: 'bad' }[v])
    case 'delivery': return v ? pill(say('delivery' + v), { 1: 'warn', 2: 'info' }[v] ?? 'good') : ''
    case 'notified': return v ? pill(say(v), { taken: 'good', 'given up': 'bad', muted: 'bad' }[v]) : ''
    case 'status': return row.method === 'APP' ? '' : httpPill(v, say('noAnswer'))
    case 'kind': case 'from': case 'to': return say(v)
    case 'mode': return `${say(v)} · ${row.format}`
    case 'forge': return v ? pill(v, 'warn') : ''
    case 'why': return v ? whyText(v) : ''
    case 'code': return v ? pill(v, 'bad') : ''
    case 'follows': return say(v ? 'yes' : 'no')
    case 'messagesCount': return row.messages
    case 'granted': return v ? Object.entries(v).map(([id, n]) => `${id.slice(0, 10)}… ×${n}`).join(' ') : ''
    case 'times': return row.always ? say('always') : v
    case 'what': return faultText(row)
    case 'act': return el('div', { className: 'acts' }, actions(of, row))
  }
  return v === undefined || v === null ? '' : String(v)
}

// whyText puts the simulator's usual reasons into the language of the page.
function whyText(v) {
  const known = Object.entries(words[lang].reasons).find(([begin]) => v.startsWith(begin))
  return known ? known[1] + v.slice(known[0].length) : v
}

function faultText(f) {
  return Object.entries(f).filter(([k]) => !['times', 'always'].includes(k)).map(([k, v]) => v === true ? k : `${k}=${v}`).join(' · ')
}

function rowsOf(of) {
  const wanted = $('search').value.trim().toLowerCase(), only = $('problems').checked
  let rows = [...state[of]]
  if (of === 'refunds') rows.sort((a, b) => a.madeAt - b.madeAt)
  if (of !== 'faults') rows.reverse()
  return rows.filter(r => (!only || isProblem[of](r)) && (!wanted || JSON.stringify(r).toLowerCase().includes(wanted)))
}

function table(of, rows, names = columns[of]) {
  const head = el('tr', {}, names.map(n => el('th', { scope: 'col' }, n === 'id' ? '#' : say(n))))
  const body = rows.map(row => el('tr', {}, names.map(n => {
    const content = value(of, row, n)
    const empty = content === '' || n === 'act' && !content.childNodes.length
    const kind = [wide.includes(n) && 'wide', mono.includes(n) && 'mono', ['total', 'refunded', 'ms'].includes(n) && 'num', n === 'act' && 'acting', n === 'id' && 'id', empty && 'empty']
    return el('td', { className: kind.filter(Boolean).join(' '), data: { label: n === 'id' ? '#' : say(n) } }, content)
  })))
  return el('div', { className: 'frame' }, el('table', {}, el('thead', {}, head), el('tbody', {}, body)))
}

function drawTabs() {
  const bad = { notifies: state.notifies.some(isProblem.notifies), pushes: state.pushes.some(isProblem.pushes), faults: state.faults.length > 0 }
  $('tabs').replaceChildren(...tabs.map(name => {
    const b = el('button', { type: 'button', role: 'tab', id: 'tab-' + name, ariaSelected: String(name === tab) }, say(name))
    if (state[name] && state.counts[name]) b.append(el('b', { className: bad[name] ? 'bad' : '' }, String(state.counts[name])))
    b.onclick = () => choose(name)
    return b
  }))
  const bar = $('tabs'), at = $('tab-' + tab)
  bar.scrollLeft = Math.max(0, at.offsetLeft - bar.offsetLeft - (bar.clientWidth - at.offsetWidth) / 2)
}

function choose(name) {
  tab = name
  history.replaceState(null, '', '#' + name)
  drawn = ''
  draw()
}

function drawHead() {
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en'
  document.title = $('title').textContent = say('title')
  $('lang').textContent = say('other')
  $('close').ariaLabel = say('close')
  $('search').placeholder = say('search')
  $('search').ariaLabel = say('search')
  $('problemsWord').textContent = say('problems')
  $('live').textContent = say(away ? 'away' : 'liveNow')
  $('live').classList.toggle('away', away)
  if (!state) return
  $('about').textContent = `${state.appId} · ${state.mchId}${state.mp ? ` · ${say('mp')} ${state.mp.appId}` : ''}`
  const chip = (word, text) => el('span', { className: 'chip' }, word, el('b', {}, text))
  $('chips').replaceChildren(
    chip(say('pushMode'), `${say(state.pushMode)} · ${state.pushFormat}`), ...state.mp ? [chip(say('mp'), `${say(state.mp.pushMode)} · ${state.mp.pushFormat}`)] : [],
    chip(say('keyMode'), say(state.keyMode)), chip(say('token'), `${state.token.left} ${say('seconds')}`), chip(say('scale'), `×${state.timeScale}`),
    ...state.faults.length ? [chip(say('faults'), String(state.faults.length))] : [])
}

function draw() {
  drawHead()
  if (!state) return
  const list = Boolean(columns[tab])
  const picture = JSON.stringify([lang, tab, list && state[tab], list && [$('search').value, $('problems').checked], Object.values(state.counts), state.mp && 1, tab === 'setting' && [state.keyMode, state.keyShare, state.tradeManaged]])
  if (picture === drawn) return // do not disturb a selection or the focus
  drawn = picture
  drawTabs()
  $('filter').hidden = !list || tab === 'faults'
  if (tab === 'play') return place(form('play', playForm))
  if (tab === 'setting') return place(form('setting', settingForm, [state.keyMode, state.keyShare, state.tradeManaged]))
  const rows = rowsOf(tab)
  $('count').textContent = `${rows.length} ${say('shown')} · ${say('of')} ${state.counts[tab]}`
  const parts = tab === 'faults' ? [form('fault', faultForm)] : []
  if (rows.length) parts.push(table(tab, rows))
  else if (tab !== 'faults') {
    const filtered = state[tab].length > 0
    parts.push(el('div', { className: 'frame none' }, el('strong', {}, say(filtered ? 'noneFiltered' : 'noneTitle')), filtered ? null : el('p', {}, say('none_' + tab))))
  } else parts.push(el('p', { className: 'soft' }, say('none_faults')))
  place(...parts)
}

// form keeps a form over redraws, because somebody may be writing in it.
const forms = {}
function form(name, make, of) {
  const key = JSON.stringify([lang, of])
  if (forms[name]?.key !== key) forms[name] = { key, node: make() }
  return forms[name].node
}

// place shows parts in the panel; what is there already is not touched.
function place(...parts) {
  const panel = $('panel')
  while (panel.childNodes.length > parts.length) panel.lastChild.remove()
  parts.forEach((part, i) => {
    if (panel.childNodes[i] !== part) panel.childNodes[i] ? panel.childNodes[i].replaceWith(part) : panel.append(part)
  })
}

// The drawer: an exchange, an order or a person.
async function show(what) {
  open = what
  try {
    const [title, body] = await { exchange: exchangeView, order: orderView, user: userView }[what.kind](what.id)
    if (open !== what) return
    $('drawerTitle').textContent = title
    $('drawerBody').replaceChildren(...body)
    $('drawer').hidden = false
    $('drawer').scrollTop = 0
    $('close').focus()
  } catch (e) { tell(e.message) }
}

function hide() {
  open = null
  $('drawer').hidden = true
}

const section = (title, ...content) => [el('h3', {}, title), ...content]

async function exchangeView(id) {
  const e = await ask('GET', '/sim/exchange?id=' + id)
  const body = []
  if (e.again) {
    const again = (word, fresh, main) => {
      const b = el('button', { type: 'button', className: main ? 'main' : '' }, say(word))
      b.onclick = () => act(b, replay(id, fresh))
      return b
    }
    body.push(el('div', { className: 'row' }, again('fresh', true, true), again('same', false)))
  }
  if (e.evidence) body.push(...evidenceView(e.evidence, e.kind === 'call', e.answer))
  if (e.kind !== 'call') {
    body.push(...section(say('answered'), el('pre', {}, pretty(e.answer) || `(${say('none')})`)))
    if (e.opened) body.push(...section(say('openedReply'), el('pre', {}, pretty(e.opened))))
    if (e.inside && e.inside !== e.body) body.push(...section(say('inside'), el('pre', {}, pretty(e.inside))))
    body.push(...section(say('sent'), el('pre', {}, `${e.method} ${e.url}`)))
    body.push(...section(say('headers'), el('pre', {}, Object.entries(e.header ?? {}).sort().map(([k, v]) => `${k}: ${v}`).join('\n'))))
    body.push(...section(say('body'), el('pre', {}, pretty(e.body))))
  }
  return [`#${id} · ${e.method} ${e.kind === 'call' ? e.url : say(e.kind === 'push' ? 'pushes' : 'notifies')}`, body]
}

function evidenceView(v, incoming, answer) {
  const hints = (v.hints ?? []).map(h => words[lang].hints[h] ?? h), wrong = incoming || v.scheme === 'reply'
  const head = wrong ? say('refusedWhy') : v.refused ? say('spoiled') + v.refused : say('match')
  const verdict = el('div', { className: 'verdict' + (wrong ? ' bad' : '') }, el('strong', {}, head),
    wrong && el('div', {}, `${say('refusedOther')}${words[lang].refusedField[v.refused] ?? v.refused}${answer && incoming ? ` · ${answer}` : ''}`),
    hints.length ? el('ul', {}, hints.map(h => el('li', {}, h))) : null)
  const clock = `${v.clockMs > 0 ? '+' : ''}${(v.clockMs / 1000).toFixed(3)} ${say('seconds')}`
  return [verdict, ...v.signed ? section(`${say('signed')} · ${say('signedNote')}`, signedText(v.signed)) : [],
    facts([[say('key'), words[lang].keys[v.key] ?? v.key], [say('serial'), v.serial, true], [say('expected'), v.expected === v.serial ? '' : v.expected, true], [say('clock'), clock], [say('bodyHash'), v.bodySha256, true],
      [say('length'), v.length ? String(v.length) : ''], [say(wrong ? 'got' : 'sentSign'), v.got || `(${say('none')})`, true], [say('want'), wrong ? v.want : '', true]])]
}

async function orderView(no) {
  const o = state.orders.find(o => o.outTradeNo === no)
  if (!o) throw new Error(say('gone'))
  const notifies = state.notifies.filter(n => n.outTradeNo === no).reverse(), refunds = state.refunds.filter(r => r.outTradeNo === no)
  const body = [el('div', { className: 'row' }, actions('orders', o)),
    facts([[say('state'), pill(say(o.state), o.state === 'paid' ? 'good' : 'warn')], [say('total'), yuan(o.total)], [say('refunded'), o.refunded ? yuan(o.refunded) : ''], [say('description'), o.description],
      [say('user'), o.user ? openButton(o.user, { kind: 'user', id: o.user }) : ''], [say('version'), o.version], [say('madeAt'), clockTime(o.madeAt)], [say('paidAt'), o.paidAt ? clockTime(o.paidAt) : ''],
      [say('transactionId'), o.transactionId, true], [say('delivery'), o.delivery ? say('delivery' + o.delivery) : ''], [say('notified'), o.notified ? say(o.notified) : ''], [say('notifyUrl'), o.notifyUrl, true]])]
  if (notifies.length) body.push(...section(say('notifiesOf'), table('notifies', notifies, ['at', 'id', 'kind', 'try', 'forge', 'status', 'why'])))
  if (refunds.length) body.push(...section(say('refundsOf'), table('refunds', refunds, ['madeAt', 'outRefundNo', 'total', 'state'])))
  return [no, body]
}

async function userView(name) {
  const u = state.users.find(u => u.name === name)
  if (!u) throw new Error(say('gone'))
  const chat = await ask('GET', '/sim/chat?after=0&user=' + encodeURIComponent(name))
  const lines = chat.messages.slice(-50).map(m => el('div', { className: 'line ' + m.from }, m.title && el('strong', {}, m.title + ' '), m.content, m.note && el('small', {}, m.note), el('small', {}, clockTime(m.at))))
  const input = el('input', { placeholder: say('say'), ariaLabel: say('say'), maxLength: 600, required: true }), send = el('button', { type: 'submit', className: 'main' }, say('sendWord'))
  const form = el('form', { className: 'row' }, input, send)
  form.onsubmit = e => {
    e.preventDefault()
    act(send, () => ask('POST', '/sim/message', { user: name, type: 'text', content: input.value }).then(v => v.shown || `${v.status} · ${v.answer || '(empty)'}`)).then(() => show({ kind: 'user', id: name }))
  }
  return [`${name} · ${u.nickname}`, [el('div', { className: 'row' }, actions('users', u)),
    facts([[say('openid'), u.openid, true], [say('follows'), say(u.follows ? 'yes' : 'no')], [say('repliesLeft'), String(u.repliesLeft)],
      ...Object.entries(u.granted ?? {}).map(([id, n]) => [say('granted'), `${id} ×${n}`, true])]),
    ...section(say('chat'), el('div', { className: 'chat' }, lines), form)]]
}

$('close').onclick = hide
$('lang').onclick = () => {
  lang = lang === 'zh' ? 'en' : 'zh'
  try { localStorage.setItem('sim.lang', lang) } catch { /* a private window keeps nothing */ }
  draw()
  if (open) show(open)
}
$('filter').onsubmit = e => e.preventDefault()
$('search').oninput = $('problems').onchange = () => draw()
addEventListener('keydown', e => { if (e.key === 'Escape') hide() })
addEventListener('hashchange', () => { if (tabs.includes(location.hash.slice(1))) choose(location.hash.slice(1)) })

async function load() {
  try {
    state = await ask('GET', '/sim/state?limit=200')
    away = false
  } catch { away = true }
  draw()
}
load()
setInterval(() => { if (!document.hidden) load() }, 2000)
