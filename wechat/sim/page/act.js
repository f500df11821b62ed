'use strict'
// The forms of the page: events to play, faults to set, settings to change.
const events = {
  group_pay: ['pay', 'refund', 'muteNotify'],
  group_mini: ['message', 'user_enter_tempsession', 'subscribe_msg_popup_event', 'subscribe_msg_change_event', 'subscribe_msg_sent_event', 'debug_demo', 'check'],
  group_platform: ['wxa_media_check', 'trade_manage_remind_access_api', 'trade_manage_remind_shipping', 'trade_manage_order_settlement', 'xpay_goods_deliver_notify', 'xpay_coin_pay_notify', 'wxa_trade_controlled'],
  group_mp: ['follow', 'unfollow', 'scan', 'click', 'view', 'location', 'mptext', 'TEMPLATESENDJOBFINISH', 'MASSSENDJOBFINISH'],
}
// The fields that each event takes beyond user and address.
const eventFields = {
  pay: ['outTradeNo', 'amount'], refund: ['outRefundNo', 'status'], muteNotify: ['outTradeNo'], message: ['content', 'type'], user_enter_tempsession: ['sessionFrom'],
  subscribe_msg_popup_event: ['template', 'status'], subscribe_msg_change_event: ['template', 'status'], subscribe_msg_sent_event: ['template', 'status', 'code', 'msgId'],
  wxa_media_check: ['traceId', 'status', 'code'], trade_manage_remind_shipping: ['outTradeNo'], trade_manage_order_settlement: ['outTradeNo'], xpay_goods_deliver_notify: ['outTradeNo', 'amount', 'key'], xpay_coin_pay_notify: ['outTradeNo', 'amount'],
  follow: ['scene'], scan: ['key'], click: ['key'], view: ['key'], location: ['latitude', 'longitude'], mptext: ['content', 'type'], TEMPLATESENDJOBFINISH: ['msgId', 'status'], MASSSENDJOBFINISH: ['msgId', 'status'],
}
const numeric = ['amount', 'code', 'latitude', 'longitude']
const samples = { content: '你好，在吗？', type: 'text', key: 'k', template: 'TEMPLATE_ID', latitude: '23.1', longitude: '113.3' }
const spoils = [['', 'honest'], ['signature', 'signature'], ['serial', 'serialBad'], ['body', 'bodyBad'], ['no-sign', 'noSign'], ['skew', 'stale'], ['probe', 'probe']]
const chosen = { event: 'message' } // what was filled in last

function playForm() {
  const select = el('select', { id: 'event', name: 'event' })
  for (const [group, list] of Object.entries(events)) {
    if (group === 'group_mp' && !state.mp) continue
    select.append(options(el('optgroup', { label: say(group) }), list.map(e => [e, `${words[lang].events[e] ?? e} · ${e}`]), chosen.event))
  }
  const people = el('datalist', { id: 'people' }, state.users.filter(u => u.name).slice(-50).map(u => el('option', { value: u.name })))
  const person = el('input', { id: 'person', value: chosen.user ?? 'xiaoyu', maxLength: 64, required: true })
  person.setAttribute('list', 'people')
  const address = el('input', { id: 'address', type: 'url', value: chosen.url ?? '', placeholder: 'https://…' })
  const copies = el('input', { id: 'copies', type: 'number', min: 1, max: 1000, value: 1 }), parallel = el('input', { id: 'parallel', type: 'checkbox' })
  const spoil = options(el('select', { id: 'spoil' }), spoils.map(([v, w]) => [v, say(w)]), '')
  const more = el('div', { className: 'two' }), answers = el('div', { className: 'answers', id: 'answers' }), go = el('button', { id: 'go', type: 'submit', className: 'main' }, say('go'))
  const fill = () => {
    chosen.event = select.value
    more.replaceChildren(...(eventFields[select.value] ?? []).map(name => field(say(name), el('input', { name, id: 'field-' + name, value: chosen[name] ?? samples[name] ?? '' }))))
  }
  select.onchange = fill
  fill()
  const form = el('form', { className: 'card' }, el('h3', {}, say('playTitle')), el('p', {}, say('playNote')),
    field(say('event'), select), el('div', { className: 'two' }, field(say('person'), person), field(say('address'), address)), more,
    el('div', { className: 'two' }, field(say('copies'), copies), field(say('spoil'), spoil)),
    el('label', { className: 'check' }, parallel, el('span', {}, say('parallel'))), el('div', { className: 'row' }, go), people)
  form.onsubmit = e => {
    e.preventDefault()
    const order = { event: select.value, user: person.value, times: Number(copies.value), parallel: parallel.checked }
    Object.assign(chosen, { user: person.value, url: address.value })
    if (address.value) order.url = address.value
    if (spoil.value === 'skew') order.skew = '-10m'
    else if (spoil.value === 'probe') order.probe = true
    else if (spoil.value) order.forge = spoil.value
    for (const input of more.querySelectorAll('input')) {
      chosen[input.name] = input.value
      if (input.value) order[input.name] = numeric.includes(input.name) ? Number(input.value) : input.value
    }
    act(go, () => ask('POST', '/sim/trigger', order).then(v => {
      answers.replaceChildren(...v.answers.slice(0, 100).map(a => el('div', { className: 'answer' }, httpPill(a.status, say('noAnswer')), el('span', { className: 'soft' }, `${a.ms} ms`),
        a.id ? openButton('#' + a.id, { kind: 'exchange', id: a.id }) : '', el('span', {}, a.reply?.content ?? (a.body || a.error || '')))), el('div', { className: 'soft' }, v.note))
      return brief(v)
    }))
  }
  return el('div', { className: 'grid' }, form, el('div', { className: 'card' }, el('h3', {}, say('result')), answers))
}

const presets = {
  f_5xx: { status: 502 }, f_html: { html: true }, f_slow: { slow: 8000 }, f_busy: { errcode: -1 }, f_lost: { lost: true }, f_wrong: { path: '', sign: 'wrong' }, f_staleA: { sign: 'stale' }, f_probeA: { sign: 'probe' },
  f_token: { tokenInvalid: true }, f_mute: { muteNotify: true }, f_late: { delay: 30000 }, f_order: { reorder: true }, f_dup: { copies: 50 }, f_forged: { forge: 'signature' }, f_old: { skew: '-10m' },
  f_pushdup: { on: 'push', copies: 10 }, f_pushlost: { on: 'push', muteNotify: true }, f_pushforged: { on: 'push', forge: 'signature' }, f_bill: { bill: 'drop' },
}

function faultForm() {
  const set = body => () => ask('POST', '/sim/fault', body).then(v => `${say('waiting')}${v.waiting}`)
  const clear = actButton('clear', () => ask('DELETE', '/sim/fault').then(() => say('cleared')))
  const text = el('input', { id: 'fault', placeholder: 'path=/v3/pay/transactions/jsapi,status=502,times=3', spellcheck: false, autocomplete: 'off', required: true }), go = el('button', { type: 'submit', className: 'main' }, say('set'))
  const form = el('form', { className: 'inline' }, field(say('own'), text), go)
  form.onsubmit = e => {
    e.preventDefault()
    const body = {}
    for (const part of text.value.split(',')) {
      const [k, ...rest] = part.trim().split('='), v = rest.join('=')
      body[k] = !rest.length || v === 'true' ? true : /^-?\d+$/.test(v) && k !== 'outTradeNo' ? Number(v) : v
    }
    act(go, set(body))
  }
  return el('div', { className: 'card', style: 'margin-bottom:16px' }, el('h3', {}, say('faultTitle')), el('p', {}, say('faultNote')),
    el('div', { className: 'presets', id: 'presets' }, Object.entries(presets).map(([word, body]) => actButton(word, set(body)))), el('div', { className: 'row' }, clear), form)
}

function settingForm() {
  const mode = options(el('select', { id: 'keyMode' }), ['public-key', 'certificate', 'mixed'].map(m => [m, say(m)]), state.keyMode)
  const share = el('input', { id: 'share', type: 'number', min: 0, max: 100, value: state.keyShare }), managed = el('input', { id: 'managed', type: 'checkbox', checked: state.tradeManaged })
  const save = el('button', { id: 'save', type: 'submit', className: 'main' }, say('save')), form = el('form', { className: 'card' }, el('h3', {}, say('keyMode')), el('p', {}, say('keyModeNote')),
    field(say('keyMode'), mode), field(say('share'), share), el('label', { className: 'check' }, managed, el('span', {}, say('managed'))),
    el('div', { className: 'row' }, save, actButton('rotate', () => ask('POST', '/sim/rotate', {}).then(v => `${say('rotated')} ${v.serial}`))))
  form.onsubmit = e => {
    e.preventDefault()
    act(save, () => ask('POST', '/sim/setting', { keyMode: mode.value, keyShare: Number(share.value), tradeManaged: managed.checked }).then(() => say('saved')))
  }
  return el('div', { className: 'grid' }, form)
}
