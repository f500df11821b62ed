// The page's words in both languages.

const zh = {
  title: 'wxhub · 手机', whichPhone: '哪一部手机', docs: '文档', badge: '演示 · 模拟微信，不会真的扣款',
  headline: '两部手机，一间小店',
  step1: '在左边的手机上买一件商品，在支付面板上确认。',
  step2: '微信通知店铺，订单入账，右边的手机立刻弹出「刚刚购买了」。',
  step3: '给客服发一句话，或在「我的」里打开飞行模式再回来：错过的一条也不少。',
  fine: '登录、支付签名、回调、数据库和长连接都是真的；只有微信由本机的模拟器扮演。',
  other: 'English', otherLang: 'en',
  app: '微光小店', slogan: '好东西，慢慢挑', sloganSmall: '有人下单，满屋都知道',
  shop: '商店', feed: '动态', chat: '客服', me: '我的',
  buy: '购买', buyOne: (name) => `购买 ${name}`,
  connected: '已连接', connecting: '连接中', disconnected: '未连接',
  retryIn: (s) => `${s} 秒后重试`, stopped: (code) => `已停止（${code}）`,
  signingIn: '正在登录…', loadFailed: '没能连上小店', again: '再试一次',
  online: (n) => `${n} 人在线`,
  justBought: (buyer, product, n) => [buyer, ` 刚刚购买了 `, product, n > 1 ? ` ×${n}` : ''],
  bought: (buyer, product, n) => [buyer, ` 购买了 `, product, n > 1 ? ` ×${n}` : ''],
  noNotices: '还没有动态', noNoticesHint: '买下第一件，这里和另一部手机都会响起来',
  recovered: (n) => `离开时错过的 ${n} 条已补上`, reloaded: '离开太久，已重新加载最近的动态',
  now: '刚刚', minutes: (n) => `${n} 分钟前`, hours: (n) => `${n} 小时前`,
  announcement: '公告',
  paySheet: '支付', payTo: (merchant) => `付款给 ${merchant}`, method: '支付方式', balance: '零钱', confirmPay: '确认支付', paying: '支付中…',
  cancel: '取消', paid: '支付成功', done: '完成', simulated: '模拟支付', payFailed: '支付没有完成', payCancelled: '已取消支付',
  service: '客服小微', serviceHint: '有问题尽管问，通常马上回复', typeHere: '说点什么…', send: '发送', ask1: '什么时候发货？', ask2: '可以退换吗？',
  chatFailed: '没有发出去，请稍后再试', chatLog: '与客服的对话',
  orders: '我的订单', noOrders: '还没有订单', mail: '服务通知', noMail: '付款、退款的消息会出现在这里', order: '订单',
  mailPaid: '订单已支付', mailClosed: '订单已关闭', mailRefunded: '订单已退款',
  created: '待支付', paidState: '已支付', closed: '已关闭', refunding: '退款中', refunded: '已退款', payNow: '去支付',
  airplane: '飞行模式', airplaneHint: '断开网络，再回来看看错过的消息', swap: '换一个人',
  line: '长连接', tabs: '页面', openLink: '打开',
}

const en = {
  title: 'wxhub · phones', whichPhone: 'Which phone', docs: 'Docs', badge: 'Demo · simulated WeChat, no real money',
  headline: 'Two phones, one little shop',
  step1: 'Buy something on the left phone and confirm it on the pay sheet.',
  step2: 'WeChat tells the shop, the order is booked, and the right phone shows the purchase at once.',
  step3: 'Write to customer service, or switch on airplane mode under “Me” and come back: nothing is missed.',
  fine: 'Login, payment signatures, callbacks, database and sockets are real; only WeChat is played by a simulator on this machine.',
  other: '中文', otherLang: 'zh',
  app: 'Glimmer', slogan: 'Good things, no rush', sloganSmall: 'When someone buys, everyone sees it',
  shop: 'Shop', feed: 'Live', chat: 'Help', me: 'Me',
  buy: 'Buy', buyOne: (name) => `Buy ${name}`,
  connected: 'Online', connecting: 'Connecting', disconnected: 'Offline',
  retryIn: (s) => `retry in ${s} s`, stopped: (code) => `stopped (${code})`,
  signingIn: 'Signing in…', loadFailed: 'The shop cannot be reached', again: 'Try again',
  online: (n) => `${n} online`,
  justBought: (buyer, product, n) => [buyer, ' just bought ', product, n > 1 ? ` ×${n}` : ''],
  bought: (buyer, product, n) => [buyer, ' bought ', product, n > 1 ? ` ×${n}` : ''],
  noNotices: 'Nothing yet', noNoticesHint: 'Buy the first thing: it rings here and on the other phone',
  recovered: (n) => `Caught up: ${n} missed ${n === 1 ? 'notice' : 'notices'}`, reloaded: 'Away for long: the latest notices were loaded again',
  now: 'just now', minutes: (n) => `${n} min ago`, hours: (n) => `${n} h ago`,
  announcement: 'News',
  paySheet: 'Payment', payTo: (merchant) => `Pay ${merchant}`, method: 'Paid from', balance: 'Balance', confirmPay: 'Pay now', paying: 'Paying…',
  cancel: 'Cancel', paid: 'Paid', done: 'Done', simulated: 'Simulated payment', payFailed: 'The payment did not go through', payCancelled: 'Payment cancelled',
  service: 'Customer service', serviceHint: 'Ask anything, we usually answer at once', typeHere: 'Write a message…', send: 'Send', ask1: 'When does it ship?', ask2: 'Can I return it?',
  chatFailed: 'Not sent, please try again', chatLog: 'Chat with customer service',
  orders: 'My orders', noOrders: 'No orders yet', mail: 'Messages for you', noMail: 'Payments and refunds show up here', order: 'Order',
  mailPaid: 'Order paid', mailClosed: 'Order closed', mailRefunded: 'Order refunded',
  created: 'Unpaid', paidState: 'Paid', closed: 'Closed', refunding: 'Refunding', refunded: 'Refunded', payNow: 'Pay',
  airplane: 'Airplane mode', airplaneHint: 'Drop the network, come back, see what you missed', swap: 'Be someone else',
  line: 'Socket', tabs: 'Pages', openLink: 'Open',
}

const key = 'wxhub.lang'
const listeners = new Set()
let lang = remembered() ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en')

function remembered() {
  const asked = new URLSearchParams(location.search).get('lang') ?? stored(key)
  return asked === 'zh' || asked === 'en' ? asked : undefined
}

/** Storage may be switched off in a browser; the page works without. */
export function stored(name) {
  try {
    return localStorage.getItem(name)
  } catch {
    return null
  }
}

export function store(name, value) {
  try {
    localStorage.setItem(name, value)
  } catch {
    // not remembered, then
  }
}

export const language = () => lang

/** The words for a key; those with blanks are functions. */
export function t(name, ...values) {
  const word = (lang === 'zh' ? zh : en)[name] ?? name
  return typeof word === 'function' ? word(...values) : word
}

export function switchLanguage() {
  lang = lang === 'zh' ? 'en' : 'zh'
  store(key, lang)
  translate()
}

/** Calls back now and after each switch, until the returned function is called. */
export function onLanguage(listener) {
  listeners.add(listener)
  listener()
  return () => listeners.delete(listener)
}

/** Fills in everything below `root` that names its words: data-t (text) and data-t-label (aria-label or placeholder). */
export function fill(root) {
  for (const element of root.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t)
  for (const element of root.querySelectorAll('[data-t-label]')) {
    element.setAttribute(element.matches('input') ? 'placeholder' : 'aria-label', t(element.dataset.tLabel))
    if (element.matches('input')) element.setAttribute('aria-label', t(element.dataset.tLabel))
  }
}

export function translate() {
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en'
  document.title = t('title')
  fill(document)
  for (const listener of listeners) listener()
}

/** How long ago, in words. */
export function ago(at) {
  const minutes = Math.floor((Date.now() - at) / 60000)
  if (minutes < 1) return t('now')
  if (minutes < 60) return t('minutes', minutes)
  if (minutes < 24 * 60) return t('hours', Math.floor(minutes / 60))
  return new Date(at).toLocaleDateString(document.documentElement.lang, { month: 'short', day: 'numeric' })
}
