import { peerCode, type Transport } from '../transport'

/** The WebSocket of browsers, and of Node from 22. Pass another class with the same face for older Nodes. */
export function browserTransport(socketClass: typeof WebSocket = WebSocket): Transport {
  return (target, events) => {
    const socket = new socketClass(target.url, target.protocols)
    socket.onopen = () => events.open()
    socket.onmessage = (event) => {
      if (typeof event.data === 'string') events.message(event.data)
    }
    socket.onclose = (event) => events.close(peerCode(event.code), event.reason)
    return {
      send: (text) => socket.send(text),
      close: (code, reason) => socket.close(code, reason),
    }
  }
}
