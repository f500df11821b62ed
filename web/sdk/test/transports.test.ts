import { expect, test, vi } from 'vitest'
import { browserTransport, followApp, WxHub, wxTransport, type WxSocketTask } from '../src/index'

/** A SocketTask that the test plays. */
function fakeWx() {
  const on: Record<string, (result?: any) => void> = {}
  const sent: string[] = []
  const closed: object[] = []
  const asked: any[] = []
  const task: WxSocketTask = {
    send: ({ data }) => void sent.push(data),
    close: (options) => void closed.push(options),
    onOpen: (f) => void (on.open = f),
    onMessage: (f) => void (on.message = f),
    onError: (f) => void (on.error = f),
    onClose: (f) => void (on.close = f),
  }
  return { on, sent, closed, asked, connectSocket: (options: any) => (asked.push(options), task) }
}

function record() {
  const log: unknown[] = []
  return {
    log,
    events: {
      open: () => void log.push('open'),
      message: (text: string) => void log.push(text),
      close: (code: number | undefined, reason: string) => void log.push([code, reason]),
    },
  }
}

const target = { url: 'wss://hub.example/ws', protocols: ['wxhub.v1', 'bearer.t'], header: { A: 'b' } }

test('wx: a line from open to close', () => {
  const wx = fakeWx()
  const { log, events } = record()
  const line = wxTransport(wx)(target, events)
  expect(wx.asked[0]).toMatchObject(target)
  wx.on.open!()
  wx.on.message!({ data: '{"ping":1}' })
  wx.on.message!({ data: new ArrayBuffer(2) }) // we speak text only
  line.send('hi')
  line.close(4000, 'silent')
  wx.on.close!({ code: 4413, reason: 'slow;retry=100' })
  expect(log).toEqual(['open', '{"ping":1}', [4413, 'slow;retry=100']])
  expect(wx.sent).toEqual(['hi'])
  expect(wx.closed).toEqual([{ code: 4000, reason: 'silent' }])
})

test('wx: a failed handshake ends once, however many ways the platform tells it', () => {
  const wx = fakeWx()
  const { log, events } = record()
  wxTransport(wx)(target, events)
  wx.on.error!({ errMsg: 'connectSocket:fail 401' })
  wx.on.close!({ code: 1006, reason: '' })
  wx.asked[0].fail({ errMsg: 'connectSocket:fail' })
  expect(log).toEqual([[undefined, 'connectSocket:fail 401']])
})

test('wx: the app coming back wakes the hub, going away hides it', () => {
  const on: Record<string, (result?: any) => void> = {}
  const hub = new WxHub({ url: 'wss://hub.example', getToken: () => 't', transport: () => ({ send() {}, close() {} }) })
  const wake = vi.spyOn(hub, 'wake')
  const hide = vi.spyOn(hub, 'hide')
  followApp(hub, {
    onAppShow: (f) => void (on.show = f),
    onAppHide: (f) => void (on.hide = f),
    onNetworkStatusChange: (f) => void (on.network = f),
  })
  on.show!()
  on.network!({ isConnected: false })
  on.network!({ isConnected: true })
  on.hide!()
  expect([wake.mock.calls.length, hide.mock.calls.length]).toEqual([2, 1])
})

test('browser: a line from open to close, and 1006 is no code', () => {
  const sockets: any[] = []
  class Socket {
    sent: string[] = []
    constructor(readonly url: string, readonly protocols: string[]) {
      sockets.push(this)
    }
    send(text: string) {
      this.sent.push(text)
    }
    close() {}
  }
  const { log, events } = record()
  const line = browserTransport(Socket as unknown as typeof WebSocket)(target, events)
  const socket = sockets[0]
  expect([socket.url, socket.protocols]).toEqual([target.url, target.protocols])
  socket.onopen()
  socket.onmessage({ data: 'x' })
  line.send('y')
  socket.onclose({ code: 1006, reason: '' })
  expect(log).toEqual(['open', 'x', [undefined, '']])
  expect(socket.sent).toEqual(['y'])
})
