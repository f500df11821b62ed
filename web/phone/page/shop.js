// The catalogue.
import { h, yuan } from './dom.js'
import { language, t } from './words.js'

export class Shop {
  constructor({ buy, load }) {
    this.buy = buy
    this.load = load
    this.products = []
    this.element = h('section', { class: 'page shop' })
    this.word = 'signingIn'
  }

  show(products, hub) {
    this.products = products
    this.hub = hub
    this.render()
  }

  /** A word instead of the catalogue: what we wait for, or what failed. */
  say(word, detail) {
    this.word = word
    this.detail = detail
    this.render()
  }

  /** A product's name in the page's language, given the name that the server said. */
  nameOf(name) {
    const product = this.products.find((one) => one.name === name)
    return (product && language() === 'en' && product.nameEn) || name
  }

  render() {
    if (this.products.length === 0) {
      const failed = this.word === 'loadFailed'
      this.element.replaceChildren(h('div', { class: 'empty', role: 'status' },
        failed ? null : h('i', { class: 'spinner' }),
        h('p', {}, t(this.word)),
        failed ? h('small', {}, this.detail) : null,
        failed ? h('button', { class: 'button', type: 'button', onclick: () => this.load() }, t('again')) : null))
      return
    }
    this.element.replaceChildren(
      h('div', { class: 'hero' }, h('strong', {}, t('slogan')), h('span', {}, t('sloganSmall'))),
      h('ul', { class: 'products' }, ...this.products.map((product) => this.card(product))))
  }

  card(product) {
    const name = this.nameOf(product.name)
    const button = h('button', {
      type: 'button', class: 'buy', 'data-testid': `buy-${product.id}`, 'aria-label': t('buyOne', name),
      onclick: async () => {
        button.disabled = true
        button.classList.add('busy')
        button.setAttribute('aria-busy', 'true')
        await this.buy(product)
        button.disabled = false
        button.classList.remove('busy')
        button.removeAttribute('aria-busy')
      },
    }, t('buy'))
    return h('li', { class: 'product', 'data-testid': `product-${product.id}` },
      product.picture ? h('img', { src: new URL(product.picture, this.hub), alt: '', width: 160, height: 160 }) : h('div', { class: 'blank' }),
      h('h3', {}, name),
      product.description && language() === 'zh' ? h('p', {}, product.description) : null,
      h('div', { class: 'row' }, h('span', { class: 'price' }, h('small', {}, '¥'), yuan(product.price)), button))
  }
}
