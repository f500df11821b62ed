// The person: orders, mail, the state of the socket and the network switch.
import { h, icon, initial, yuan } from './dom.js'
import { ago, t } from './words.js'

const mailWords = { 'order.paid': 'mailPaid', 'order.closed': 'mailClosed', 'order.refunded': 'mailRefunded' }
const stateWords = { paid: 'paidState' }

export class Me {
  constructor({ user, api, hub, platform, pay, onMail, onSwap }) {
    this.api = api
    this.pay = pay
    this.person = { nickname: user.name ?? user.id }
    this.orders = []
    this.mails = new Map() // by offset
    this.productName = (name) => name
    const mailbox = hub.mail({
      onMessage: (push) => {
        const mail = this.keep(push)
        if (mail) onMail(mail)
        this.refresh()
      },
      onJoin: async ({ recovered }) => {
        if (recovered) return
        try { // what was read before, on this phone or another
          for (const push of (await mailbox.history({ limit: 10 })).messages) this.keep(push)
          this.render()
        } catch (error) {
          if (error.error !== 'disconnected') console.warn('wxhub phone: mail:', error.message)
        }
      },
    })
    this.card = h('div', { class: 'person' })
    this.mailList = h('ul', { class: 'cards' })
    this.orderList = h('ul', { class: 'cards' })
    this.line = h('span', { class: 'linestate' })
    const airplane = h('button', {
      type: 'button', role: 'switch', class: 'switch', 'aria-checked': 'false', 'data-testid': 'airplane', 'data-t-label': 'airplane',
      onclick: () => {
        platform.setOnline(!platform.online)
        airplane.setAttribute('aria-checked', String(!platform.online))
      },
    }, h('i'))
    this.element = h('section', { class: 'page me' },
      this.card,
      h('ul', { class: 'rows' },
        h('li', {}, icon('feed'), h('span', { 'data-t': 'line' }), this.line),
        h('li', {}, icon('plane'), h('span', {}, h('span', { 'data-t': 'airplane' }), h('small', { 'data-t': 'airplaneHint' })), airplane)),
      h('h3', { 'data-t': 'mail' }), this.mailList,
      h('h3', { 'data-t': 'orders' }), this.orderList,
      h('button', { type: 'button', class: 'plain', 'data-testid': 'swap', 'data-t': 'swap', onclick: onSwap }))
  }

  keep({ meta, data }) {
    const word = mailWords[data.action]
    if (!word || typeof data.payload?.total !== 'number') return undefined
    const mail = { word, order: data.payload, at: meta.timestamp, offset: meta.offset }
    this.mails.set(meta.offset, mail)
    return mail
  }

  signedIn(user) {
    this.person = user
    this.signed = true
    this.refresh()
  }

  async refresh() {
    if (!this.signed) return
    try {
      this.orders = await this.api.orders()
    } catch (error) {
      console.warn('wxhub phone: orders:', error.message)
    }
    this.render()
  }

  shown() {
    this.refresh()
  }

  showLine({ state, code, reason }, retryIn) {
    const more = retryIn ? t('retryIn', retryIn) : state === 'disconnected' && code ? t('stopped', `${code} ${reason}`) : ''
    this.line.textContent = [t(state), more].filter(Boolean).join(' · ')
    this.line.dataset.state = state
  }

  render() {
    const { id, nickname, avatar } = this.person
    this.card.replaceChildren(
      avatar ? h('img', { class: 'avatar', src: avatar, alt: '' }) : initial(nickname || '?'),
      h('div', {}, h('strong', {}, nickname || id), h('small', {}, id ?? '')))
    const mails = [...this.mails.values()].sort((a, b) => b.offset - a.offset)
    this.mailList.replaceChildren(...(mails.length ? mails.map((mail) => this.mail(mail)) : [h('li', { class: 'none' }, t('noMail'))]))
    this.orderList.replaceChildren(...(this.orders.length ? this.orders.map((order) => this.order(order)) : [h('li', { class: 'none' }, t('noOrders'))]))
  }

  mail({ word, order, at }) {
    return h('li', { class: 'mail', 'data-testid': 'mail-item' },
      h('span', { class: 'tick' }, icon('check')),
      h('div', {}, h('strong', {}, t(word)), h('small', {}, this.productName(order.description ?? ''))),
      h('div', { class: 'end' }, h('b', {}, `¥${yuan(order.total)}`), h('small', {}, ago(at))))
  }

  order(order) {
    const unpaid = order.state === 'created' || order.state === 'paying'
    const state = unpaid ? 'created' : order.state
    return h('li', { 'data-testid': 'order-item', 'data-state': order.state },
      h('div', {}, h('strong', {}, this.productName(order.description)), h('small', {}, order.outTradeNo)),
      h('div', { class: 'end' },
        h('b', {}, `¥${yuan(order.total)}`),
        unpaid
          ? h('button', { type: 'button', class: 'chip', onclick: () => this.pay(order.outTradeNo) }, t('payNow'))
          : h('span', { class: `tag ${state}` }, t(stateWords[state] ?? state))))
  }
}
