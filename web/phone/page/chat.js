// The chat with customer service, which belongs to WeChat: messages go to the simulator, which pushes
// them to the hub; answers come back the same way.
import { h, icon, initial } from './dom.js'
import { t } from './words.js'

export class Chat {
  constructor({ platform, onAnswer }) {
    this.platform = platform
    this.onAnswer = onAnswer
    this.lines = []
    this.after = 0
    this.log = h('ol', { class: 'lines', role: 'log', 'aria-live': 'polite', 'data-t-label': 'chatLog' })
    this.input = h('input', {
      type: 'text', maxlength: 500, autocomplete: 'off', enterkeyhint: 'send', 'data-testid': 'chat-input', 'data-t-label': 'typeHere',
      oninput: () => this.ready(),
    })
    this.button = h('button', { class: 'sendit', 'data-testid': 'chat-send', 'data-t-label': 'send', disabled: true }, icon('send'))
    const chip = (word) => h('button', { type: 'button', class: 'chip', 'data-t': word, onclick: () => this.say(t(word)) })
    this.element = h('section', { class: 'page chat' },
      this.log,
      h('div', { class: 'chips' }, chip('ask1'), chip('ask2')),
      h('form', {
        onsubmit: (event) => {
          event.preventDefault()
          this.say(this.input.value)
        },
      }, this.input, this.button))
  }

  start() {
    if (this.aborter) return
    this.aborter = new AbortController()
    void this.listen(this.aborter.signal)
  }

  stop() {
    this.aborter?.abort()
  }

  /** Asks for the next lines for as long as the phone lives. */
  async listen(signal) {
    let first = true
    while (!signal.aborted) {
      try {
        const { messages, next } = await this.platform.chat(this.after, first ? 0 : 20, signal)
        if (next < this.after) this.lines = [] // the simulator started afresh
        this.after = next
        for (const line of messages) this.take(line)
        if (messages.some((line) => line.from !== 'user') && !first) this.onAnswer()
        if (messages.length > 0 || first) this.render()
        first = false
      } catch {
        if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 1500))
      }
    }
  }

  take(line) {
    if (line.from === 'user') {
      const mine = this.lines.findIndex((one) => one.waiting && one.content === line.content)
      if (mine >= 0) this.lines.splice(mine, 1)
    }
    this.lines.push(line)
  }

  async say(content) {
    content = content.trim()
    if (!content) return
    if (this.input.value.trim() === content) this.input.value = ''
    this.ready()
    const line = { from: 'user', type: 'text', content, at: Date.now(), waiting: true }
    this.lines.push(line)
    this.render()
    try {
      await this.platform.say(content)
    } catch {
      line.failed = true
      this.render()
    }
  }

  ready() {
    this.button.disabled = this.input.value.trim() === ''
  }

  shown() {
    this.scroll()
  }

  scroll() {
    this.log.scrollTop = this.log.scrollHeight
  }

  render() {
    this.log.replaceChildren(
      h('li', { class: 'hello' }, h('strong', {}, t('service')), h('span', {}, t('serviceHint'))),
      ...this.lines.map((line) => this.bubble(line)))
    this.scroll()
  }

  bubble(line) {
    const attributes = { class: `line ${line.from}${line.waiting && !line.failed ? ' waiting' : ''}`, 'data-testid': 'chat-item', 'data-from': line.from }
    if (line.from === 'system') return h('li', attributes, h('span', {}, line.content))
    const words = [line.title && h('b', {}, line.title), line.content]
    if (/^https?:/.test(line.url ?? '')) words.push(h('a', { href: line.url, target: '_blank', rel: 'noreferrer' }, t('openLink')))
    return h('li', attributes,
      line.from === 'shop' ? initial(t('service')) : null,
      h('div', { class: 'bubble' }, ...words.filter(Boolean)),
      line.failed ? h('small', { class: 'failed', role: 'alert' }, t('chatFailed')) : null)
  }
}
