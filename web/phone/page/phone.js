// One phone: WeChat's frame, and in it the shop, signed in as this phone's person.
import { ApiError, followApp, WxApi, WxHub, wxTransport } from './sdk.mjs'
import { Chat } from './chat.js'
import { h, icon, yuan } from './dom.js'
import { Feed, words } from './feed.js'
import { Me } from './me.js'
import { createPlatform } from './platform.js'
import { PaySheet } from './paysheet.js'
import { Shop } from './shop.js'
import { fill, onLanguage, t } from './words.js'

const pages = ['shop', 'feed', 'chat', 'me']
const toastTime = 4300 // ms on the screen

export class Phone {
  /** `root` is emptied; options: sim, hub (addresses), user { id, name }, onNews(), onSwap(). */
  constructor(root, options) {
    this.user = options.user
    this.options = options
    this.sheet = new PaySheet()
    this.platform = createPlatform({
      sim: options.sim, user: options.user,
      confirmPayment: (order, pay) => this.sheet.ask({ ...order, description: this.shop.nameOf(order.description) }, pay),
    })
    const { wx } = this.platform
    this.api = new WxApi({ base: options.hub, wx })
    this.hub = new WxHub({ url: `${options.hub}/ws`, getToken: (fresh) => this.token(fresh), transport: wxTransport(wx) })
    followApp(this.hub, wx)

    this.shop = new Shop({ buy: (product) => this.buy({ productId: product.id }), load: () => this.load() })
    this.feed = new Feed({ hub: this.hub, say: (push, live) => this.announce(push, live), note: (word) => this.toast('note', [word]) })
    this.chat = new Chat({ platform: this.platform, onAnswer: () => this.news('chat') })
    this.me = new Me({
      user: options.user, api: this.api, hub: this.hub, platform: this.platform,
      pay: (outTradeNo) => this.buy({ outTradeNo }), onMail: (mail) => this.mailed(mail), onSwap: options.onSwap,
    })
    this.build(root)
    this.feed.productName = this.me.productName = (name) => this.shop.nameOf(name)

    this.hub.on('state', (change) => this.showState(change))
    this.forget = onLanguage(() => {
      fill(root)
      this.showState(this.change ?? { state: this.hub.state })
      for (const page of pages) this[page].render()
    })
    this.load()
  }

  /** The person gives the phone away: nothing of it goes on. */
  stop() {
    this.stopped = true
    this.forget()
    this.feed.stop()
    clearInterval(this.clock)
    clearInterval(this.countdown)
    this.hub.close()
    this.chat.stop()
    this.sheet.cancel()
  }

  /** Signs in with the profile, gets the catalogue, then listens. */
  async load() {
    this.shop.say('signingIn')
    try {
      await this.token(true)
      if (this.stopped) return
      this.shop.show(await this.api.products(), this.options.hub)
      this.me.signedIn(this.api.user)
    } catch (error) {
      console.warn('wxhub phone:', error.message)
      return this.shop.say('loadFailed', error.message)
    }
    if (this.stopped) return
    this.feed.start()
    this.hub.connect()
    this.chat.start()
  }

  /** A fresh one comes with the profile, so that a hub that knows nobody yet learns the name. */
  async token(fresh) {
    if (fresh) {
      const { rawData, signature, encryptedData, iv } = await new Promise((success, reject) =>
        this.platform.wx.getUserProfile({ success, fail: (error) => reject(new Error(error.errMsg)) }))
      await this.api.login({ rawData, signature, encryptedData, iv })
    }
    return this.api.token()
  }

  async buy(what) {
    try {
      await this.api.pay(what)
    } catch (error) {
      const cancelled = error instanceof ApiError && error.message.endsWith('fail cancel')
      this.toast('note', [cancelled ? t('payCancelled') : `${t('payFailed')}: ${error.message}`])
    }
    this.me.refresh()
  }

  /** A purchase or another push of the shop: live, it slides in at the top. */
  announce(push, live) {
    if (live) this.toast('notice', words(push, (name) => this.shop.nameOf(name), 'justBought'))
    this.news('feed')
  }

  mailed({ word, order }) {
    if (!this.sheet.open) this.toast('mail', [t(word), ' · ', this.shop.nameOf(order.description ?? ''), ` ¥${yuan(order.total)}`])
    this.news('me')
  }

  /** Something new on a page that is not in front. */
  news(page) {
    if (page !== this.page) this.tabs[page].classList.add('new')
    this.options.onNews()
  }

  toast(kind, parts) {
    const toast = h('div', { class: `toast ${kind}`, 'data-testid': kind === 'notice' ? 'toast' : null },
      icon({ notice: 'shop', mail: 'check', note: 'feed' }[kind]),
      h('p', {}, ...parts.map((part, i) => (kind === 'notice' && i % 2 === 0 ? h('b', {}, part) : part))))
    this.toasts.append(toast)
    while (this.toasts.children.length > 2) this.toasts.firstChild.remove()
    setTimeout(() => toast.remove(), toastTime)
  }

  show(page) {
    this.page = page
    for (const name of pages) {
      const here = name === page
      this[name].element.hidden = !here
      this.tabs[name].setAttribute('aria-selected', String(here))
      this.tabs[name].tabIndex = here ? 0 : -1
    }
    this.tabs[page].classList.remove('new')
    this[page].shown?.()
  }

  /** Says how the line stands: for people in words, for programs in data-state. */
  showState(change) {
    this.change = change
    clearInterval(this.countdown)
    const until = change.retryIn === undefined ? 0 : Date.now() + change.retryIn
    const write = () => {
      const left = Math.ceil((until - Date.now()) / 1000)
      this.state.dataset.state = change.state
      this.state.lastChild.textContent = t(change.state)
      this.me.showLine(change, left > 0 ? left : 0)
    }
    write()
    if (until) this.countdown = setInterval(write, 1000)
  }

  build(root) {
    this.state = h('span', { class: 'state', 'data-testid': 'socket-state', role: 'status' }, h('i'), h('span'))
    this.toasts = h('div', { class: 'toasts', role: 'status', 'aria-live': 'polite' })
    this.tabs = {}
    const bar = h('div', { class: 'tabs', role: 'tablist', 'data-t-label': 'tabs' })
    const side = root.dataset.testid
    for (const page of pages) {
      const tab = h('button', {
        type: 'button', role: 'tab', id: `${side}-tab-${page}`, 'aria-controls': `${side}-${page}`,
        'data-testid': `tab-${page}`, onclick: () => this.show(page),
        onkeydown: ({ key }) => {
          const step = { ArrowRight: 1, ArrowLeft: pages.length - 1 }[key]
          if (!step) return
          this.show(pages[(pages.indexOf(page) + step) % pages.length])
          this.tabs[this.page].focus()
        },
      }, icon(page), h('span', { 'data-t': page }))
      this.tabs[page] = tab
      bar.append(tab)
      const { element } = this[page]
      element.id = `${side}-${page}`
      element.setAttribute('role', 'tabpanel')
      element.setAttribute('aria-labelledby', tab.id)
    }
    const time = h('time')
    const tick = () => (time.textContent = new Date().toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' }))
    tick()
    this.clock = setInterval(tick, 10000)
    const app = h('div', { class: 'app' },
      h('header', { class: 'nav' }, this.state, h('h2', { 'data-t': 'app' }), h('span', { class: 'capsule', 'aria-hidden': 'true' }, h('i'), h('i'))),
      h('div', { class: 'pages' }, ...pages.map((page) => this[page].element)),
      bar)
    this.sheet.under = app
    root.replaceChildren(h('div', { class: 'screen' },
      h('div', { class: 'status', 'aria-hidden': 'true' }, time, h('i', { class: 'island' }), h('span', { class: 'radio' }, h('i'), h('i'), h('i'), h('i')), h('span', { class: 'battery' })),
      app, this.toasts, this.sheet.element))
    this.screen = root.firstChild
    this.platform.wx.onNetworkStatusChange(({ isConnected }) => this.screen.classList.toggle('airplane', !isConnected))
    this.show('shop')
  }
}
