// The sheet that WeChat slides over a mini-program when it asks for money.
import { h, icon, yuan } from './dom.js'
import { t } from './words.js'

const shownFor = 1800 // ms that the success stays

export class PaySheet {
  constructor() {
    this.element = h('div', { class: 'veil', hidden: true })
    this.under = undefined // what must not be reached meanwhile
  }

  /** Whether the person looks at it, and so knows already what the money does. */
  get open() {
    return !this.element.hidden
  }

  /**
   * Shows what is to be paid and waits for the person. `pay` takes the money.
   * Resolves with true once paid, with false when cancelled; rejects when the payment was refused.
   */
  ask({ description, total, merchant }, pay) {
    this.cancel() // one at a time
    return new Promise((resolve, reject) => {
      const before = document.activeElement
      const close = (settle, value) => {
        this.cancel = () => undefined
        this.element.hidden = true
        this.element.replaceChildren()
        if (this.under) this.under.inert = false
        if (this.element.isConnected && before instanceof HTMLElement) before.focus({ preventScroll: true })
        settle(value)
      }
      this.cancel = () => close(resolve, false)
      const confirm = h('button', {
        type: 'button', class: 'button pay', 'data-testid': 'pay-confirm',
        onclick: async () => {
          confirm.disabled = true
          confirm.textContent = t('paying')
          this.cancel = () => undefined // the money is on its way
          try {
            await pay()
          } catch (error) {
            return close(reject, error)
          }
          this.thank(total, () => close(resolve, true))
        },
      }, t('confirmPay'))
      const sheet = h('div', {
        class: 'sheet', role: 'dialog', 'aria-modal': 'true', 'aria-label': t('paySheet'), 'data-testid': 'pay-sheet',
        onkeydown: ({ key }) => key === 'Escape' && this.cancel(),
      },
      h('header', {},
        h('button', { type: 'button', class: 'round', 'aria-label': t('cancel'), 'data-testid': 'pay-cancel', onclick: () => this.cancel() }, icon('close')),
        h('span', {}, t('simulated'))),
      h('p', {}, t('payTo', merchant)),
      h('p', { class: 'sum' }, h('small', {}, '¥'), yuan(total)),
      h('dl', {},
        h('div', {}, h('dt', {}, t('order')), h('dd', {}, description)),
        h('div', {}, h('dt', {}, t('method')), h('dd', {}, t('balance')))),
      confirm)
      this.element.replaceChildren(sheet)
      this.element.hidden = false
      if (this.under) this.under.inert = true
      confirm.focus({ preventScroll: true })
    })
  }

  /** Ends an open sheet as cancelled. */
  cancel() {}

  thank(total, close) {
    const timer = setTimeout(close, shownFor)
    const done = h('button', {
      type: 'button', class: 'button quiet',
      onclick: () => {
        clearTimeout(timer)
        close()
      },
    }, t('done'))
    this.element.firstChild.replaceChildren(
      h('div', { class: 'thanks', role: 'status', 'data-testid': 'pay-done' },
        h('span', { class: 'seal' }, icon('check')), h('strong', {}, t('paid')), h('p', { class: 'sum' }, h('small', {}, '¥'), yuan(total))),
      done)
    done.focus({ preventScroll: true })
  }
}
