// What WeChat gives to a mini-program on one phone, played in a browser: `wx`, as far as the shop uses it,
// and WeChat's own side (the chat with customer service, the network switch). The simulator answers.

/**
 * @param sim   the simulator's address
 * @param user  the person whose phone this is: { id, name }
 * @param confirmPayment shows the pay sheet: (sheet, pay) → Promise of true when paid, false when cancelled
 */
export function createPlatform({ sim, user, confirmPayment }) {
  let online = true
  const sockets = new Set()
  const networkListeners = new Set()

  async function ask(path, body, signal) {
    if (!online) throw new Error('network is off')
    const answer = await fetch(sim + path, body
      ? { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal }
      : { signal })
    const data = await answer.json()
    if (!online) throw new Error('network is off') // it went off meanwhile: the answer is lost
    if (!answer.ok) throw new Error(data.message ?? `HTTP ${answer.status}`)
    return data
  }

  const person = () => ask('/sim/login', { user: user.id, nickname: user.name })

  const wx = {
    login({ success, fail }) {
      person().then(({ code }) => success({ code, errMsg: 'login:ok' }), refuse(fail, 'login'))
    },

    getUserProfile({ success, fail }) {
      person().then(({ rawData, signature, encryptedData, iv }) =>
        success({ rawData, signature, encryptedData, iv, userInfo: JSON.parse(rawData) }), refuse(fail, 'getUserProfile'))
    },

    request({ url, method = 'GET', data, header, success, fail }) {
      const answer = online
        ? fetch(url, { method, headers: header, body: data && JSON.stringify(data) })
        : Promise.reject(new Error('network is off'))
      answer.then(async (response) => {
        const text = await response.text()
        let body = text
        try {
          body = JSON.parse(text)
        } catch {
          // wx hands over what is no JSON as text
        }
        success({ statusCode: response.status, data: body })
      }).catch(refuse(fail, 'request'))
    },

    connectSocket({ url, protocols = [], fail }) {
      const on = {}
      const tell = (name, event) => on[name]?.(event)
      const task = {
        onOpen: (f) => (on.open = f), onMessage: (f) => (on.message = f),
        onClose: (f) => (on.close = f), onError: (f) => (on.error = f),
        send() {}, close() {},
      }
      if (!online) {
        queueMicrotask(() => refuse(fail, 'connectSocket')(new Error('network is off')))
        return task
      }
      const socket = new WebSocket(url, protocols)
      const cut = () => {
        sockets.delete(cut)
        socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null
        socket.close()
        tell('close', { code: 1006, reason: 'interrupted' })
      }
      sockets.add(cut)
      socket.onopen = () => tell('open', {})
      socket.onmessage = ({ data }) => tell('message', { data })
      socket.onerror = () => tell('error', { errMsg: 'connectSocket:fail' })
      socket.onclose = ({ code, reason }) => {
        sockets.delete(cut)
        tell('close', { code, reason })
      }
      task.send = ({ data }) => socket.send(data)
      task.close = ({ code = 1000, reason }) => {
        sockets.delete(cut)
        socket.close(code, reason)
      }
      return task
    },

    /** WeChat checks the five fields, shows the pay sheet, takes the money and tells the shop's server. */
    requestPayment({ timeStamp, nonceStr, package: prepay, signType, paySign, success, fail }) {
      const fields = { user: user.id, timeStamp, nonceStr, package: prepay, signType, paySign }
      const pay = async (more) => {
        const answer = await ask('/sim/pay', { ...fields, ...more })
        if (!answer.ok) throw new PaymentRefused(answer.errMsg)
        return answer
      }
      pay({}).then(async (sheet) => {
        if (await confirmPayment(sheet, () => pay({ confirm: true }))) return success({ errMsg: 'requestPayment:ok' })
        return pay({ cancel: true })
      }).catch(refuse(fail, 'requestPayment'))
    },

    onAppShow: (f) => document.addEventListener('visibilitychange', () => document.hidden || f()),
    onAppHide: (f) => document.addEventListener('visibilitychange', () => document.hidden && f()),
    onNetworkStatusChange: (f) => networkListeners.add(f),
  }

  return {
    wx,
    get online() {
      return online
    },
    setOnline(on) {
      if (on === online) return
      online = on
      if (!on) for (const cut of [...sockets]) cut()
      for (const listener of networkListeners) listener({ isConnected: on, networkType: on ? 'wifi' : 'none' })
    },
    /** What the person writes in the chat with customer service. */
    say: (content) => ask('/sim/message', { user: user.id, type: 'text', content }),
    /** The chat after a line, waiting so many seconds for the next one. */
    chat: (after, wait, signal) =>
      ask(`/sim/chat?user=${encodeURIComponent(user.id)}&after=${after}&wait=${wait}`, undefined, signal),
  }
}

class PaymentRefused extends Error {}

/** Tells a failure as wx does: "request:fail why". */
function refuse(fail, name) {
  return (error) => fail?.({ errMsg: error instanceof PaymentRefused ? error.message : `${name}:fail ${error.message}` })
}
