// The page: two phones, which one is in front on a small screen, and the language.
import { newPerson, personOf } from './people.js'
import { Phone } from './phone.js'
import { onLanguage, switchLanguage, t, translate } from './words.js'

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content
const servers = { sim: meta('wxhub-sim'), hub: meta('wxhub-hub') || location.origin }
const sides = ['left', 'right']
const people = {}
const phones = {}

function start(side) {
  phones[side] = new Phone(document.getElementById(`phone-${side}`), {
    ...servers,
    user: people[side],
    onNews: () => {
      if (side !== front) dotOf(side).hidden = false
    },
    onSwap: () => {
      phones[side].stop()
      people[side] = newPerson(side, people.left, people.right)
      start(side)
      label()
      phones[side].tabs.shop.focus()
    },
  })
}

// On a small screen one phone is in front; both go on living.
let front = 'left'
const tab = (side) => document.getElementById(`tab-${side}`)
const dotOf = (side) => tab(side).querySelector('.dot')

function show(side) {
  front = side
  document.body.dataset.front = side
  for (const one of sides) {
    tab(one).setAttribute('aria-selected', String(one === side))
    tab(one).tabIndex = one === side ? 0 : -1
  }
  dotOf(side).hidden = true
}

function label() {
  for (const side of sides) {
    const name = people[side].name ?? people[side].id
    tab(side).querySelector('.who').textContent = name
    document.getElementById(`phone-${side}`).setAttribute('aria-label', name)
  }
}

people.left = personOf('left')
people.right = personOf('right', people.left)
for (const side of sides) {
  tab(side).addEventListener('click', () => show(side))
  tab(side).addEventListener('keydown', ({ key }) => {
    if (key !== 'ArrowLeft' && key !== 'ArrowRight') return
    show(side === 'left' ? 'right' : 'left')
    tab(front).focus()
  })
}
document.querySelector('.lang').addEventListener('click', switchLanguage)
onLanguage(() => {
  const button = document.querySelector('.lang')
  button.textContent = t('other')
  button.lang = t('otherLang')
})
show('left')
label()
sides.forEach(start)
translate()
