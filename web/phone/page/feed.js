// The live feed of the room "notice": what was said before, and what is said now.
import { h, icon, initial } from './dom.js'
import { ago, t } from './words.js'

const kept = 50 // items on the page
const countEvery = 10000 // ms between looks at who is there

/** An admin may say anything as a "purchase": one without a buyer is read as any other push. */
const isPurchase = ({ data: { action, payload } }) => action === 'purchase' && typeof payload?.buyer === 'string'

/** What a push says, for people: [buyer, " bought ", product, " ×2"], or the words of an announcement. */
export function words(push, nameOf, verb) {
  const { payload } = push.data
  if (isPurchase(push)) return t(verb, payload.buyer, nameOf(payload.product ?? '?'), payload.quantity)
  if (typeof payload === 'string') return [payload]
  return [payload?.text ?? payload?.message ?? payload?.title ?? payload?.content ?? JSON.stringify(payload)]
}

export class Feed {
  /** say(push, live) is called for each arrival; note(word) for what happened to the feed itself. */
  constructor({ hub, say, note }) {
    this.hub = hub
    this.say = say
    this.note = note
    this.items = new Map() // by room, epoch and offset, newest last
    this.productName = (name) => name
    this.count = h('span', { class: 'count', 'data-testid': 'online-count' })
    this.list = h('ul', { class: 'notices' })
    this.element = h('section', { class: 'page feed' },
      h('div', { class: 'heading' }, h('h3', { 'data-t': 'feed' }), h('span', { class: 'people' }, icon('people'), this.count)), this.list)
  }

  start() {
    if (this.started) return
    this.started = true
    let missed = 0 // of these, that are still to come: they are told together, not one by one
    const onMessage = (push) => {
      this.add(push)
      this.say(push, missed === 0)
      if (missed > 0) missed--
      else this.look()
    }
    this.hub.join('notice', {
      onMessage,
      onReload: () => this.note(t('reloaded')),
      onJoin: (standing) => {
        missed = standing.missed
        if (!standing.recovered) this.backlog()
        else if (missed > 0) this.note(t('recovered', missed))
        this.look()
      },
    })
    this.hub.join('all', {
      onMessage: (push) => {
        this.add(push)
        this.say(push, true)
      },
    })
    this.clock = setInterval(() => {
      if (!document.hidden && !this.element.hidden) this.look()
    }, countEvery)
  }

  stop() {
    clearInterval(this.clock)
  }

  shown() {
    this.render()
    this.look()
  }

  /** What the room heard before we came. */
  async backlog() {
    try {
      const { messages } = await this.hub.history('notice', { limit: 20 })
      const live = [...this.items.values()]
      this.items.clear()
      for (const push of [...messages, ...live]) this.keep(push)
      this.render()
    } catch (error) {
      if (error.error !== 'disconnected') console.warn('wxhub phone: history:', error.message)
    }
  }

  async look() {
    if (this.hub.state !== 'connected') return
    try {
      this.people = (await this.hub.presence('notice')).count
      this.count.textContent = t('online', this.people)
    } catch {
      // the next look will tell
    }
  }

  keep(push) {
    const { room, epoch, offset, id } = push.meta
    const key = `${room} ${epoch} ${offset ?? id}`
    if (this.items.has(key)) return false
    this.items.set(key, push)
    if (this.items.size > kept) this.items.delete(this.items.keys().next().value)
    return true
  }

  add(push) {
    if (!this.keep(push)) return
    this.render()
    this.list.firstChild.classList.add('fresh')
  }

  render() {
    if (this.people !== undefined) this.count.textContent = t('online', this.people)
    if (this.items.size === 0) {
      this.list.replaceChildren(h('li', { class: 'empty' }, icon('feed'), h('p', {}, t('noNotices')), h('small', {}, t('noNoticesHint'))))
      return
    }
    this.list.replaceChildren(...[...this.items.values()].reverse().map((push) => this.item(push)))
  }

  item(push) {
    const bought = isPurchase(push)
    const parts = words(push, this.productName, 'bought')
    return h('li', { class: bought ? 'notice' : 'notice news', 'data-testid': 'notice-item' },
      bought ? initial(push.data.payload.buyer) : h('span', { class: 'avatar horn' }, icon('horn')),
      h('p', {}, bought ? null : h('b', {}, `${t('announcement')} · `), ...parts.map((part, i) => (bought && i % 2 === 0 ? h('b', {}, part) : part))),
      h('time', { datetime: new Date(push.meta.timestamp).toISOString() }, ago(push.meta.timestamp)))
  }
}
