import { peerCode, type Transport } from '../transport'

/** What this transport uses of a SocketTask. */
export interface WxSocketTask {
  send(options: { data: string }): void
  close(options: { code?: number; reason?: string }): void
  onOpen(listener: () => void): void
  onMessage(listener: (result: { data: string | ArrayBuffer }) => void): void
  onError(listener: (result: { errMsg: string }) => void): void
  onClose(listener: (result: { code: number; reason: string }) => void): void
}

/** What this transport uses of `wx`. */
export interface WxSockets {
  connectSocket(options: {
    url: string
    header?: Record<string, string>
    protocols?: string[]
    tcpNoDelay?: boolean
    fail?: (result: { errMsg: string }) => void
  }): WxSocketTask
}

/**
 * The sockets of a mini-program. The platform allows five in all (some devices two), so one hub is enough
 * for all pages. A failed handshake shows as an error, as a close without a code, or as both.
 */
export function wxTransport(wx: WxSockets): Transport {
  return (target, events) => {
    let ended = false
    const end = (code: number | undefined, reason: string) => {
      if (ended) return
      ended = true
      events.close(code, reason)
    }
    const task = wx.connectSocket({
      url: target.url,
      header: target.header,
      protocols: target.protocols,
      tcpNoDelay: true,
      fail: (result) => end(undefined, result.errMsg),
    })
    task.onOpen(() => events.open())
    task.onMessage((result) => {
      if (typeof result.data === 'string') events.message(result.data)
    })
    task.onClose((result) => end(peerCode(result.code), result.reason ?? ''))
    task.onError((result) => end(undefined, result.errMsg))
    return {
      send: (text) => task.send({ data: text }),
      close: (code, reason) => task.close({ code, reason }),
    }
  }
}
