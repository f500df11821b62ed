// One client of Socket.IO, driven by lines of JSON on stdin and telling what it hears in lines of JSON on stdout.
// The only argument is {"package","url","options","events","patch"}: the npm package as it is, and what to listen to.
const readline = require('node:readline')
const WebSocket = require('ws')

const config = JSON.parse(process.argv[2])

// What mini-programs have in place of WebSocket.
globalThis.wx = {
  connectSocket({ url, header, protocols }) {
    const ws = new WebSocket(url, protocols && protocols.length ? protocols : undefined, { headers: header })
    ws.binaryType = 'arraybuffer'
    const task = {
      onOpen: (f) => ws.on('open', () => f({ header: {} })),
      onMessage: (f) => ws.on('message', (data, binary) => f({ data: binary ? data : data.toString() })),
      onError: (f) => ws.on('error', (err) => f({ errMsg: String(err) })),
      onClose: (f) => ws.on('close', (code, reason) => f({ code, reason: String(reason) })),
      send: ({ data, success, fail }) => ws.send(data, (err) => (err ? fail && fail({ errMsg: String(err) }) : success && success({}))),
      close: ({ code, reason } = {}) => ws.close(code === 1001 ? 1000 : code, reason),
    }
    return task
  },
}

// Binary values stand in lines as {"$binary": base64}.
const pack = (key, v) => {
  if (v instanceof ArrayBuffer) v = Buffer.from(v)
  if (v && v.type === 'Buffer') return { $binary: Buffer.from(v.data).toString('base64') }
  if (ArrayBuffer.isView(v)) return { $binary: Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString('base64') }
  return v
}
const unpack = (key, v) => (v && typeof v === 'object' && '$binary' in v ? Buffer.from(v.$binary, 'base64') : v)
const tell = (what) => process.stdout.write(JSON.stringify(what, pack) + '\n')

if (config.package.startsWith('weapp')) globalThis.window = {} // it asks for one, and uses nothing of it
const loaded = require(config.package)
const io = typeof loaded === 'function' ? loaded : loaded.io || loaded.default
const socket = io(config.url, config.options)

socket.on('connect', () => tell({ event: 'connect', id: socket.id, recovered: socket.recovered === true }))
socket.on('disconnect', (reason) => tell({ event: 'disconnect', args: [reason] }))
socket.on('connect_error', (err) => tell({ event: 'connect_error', args: [err.message, err.data || null] }))
socket.on('error', (err) => tell({ event: 'error', args: [err && err.message ? err.message : err] }))
for (const event of config.events) socket.on(event, (...args) => tell({ event, args }))

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { emit, args, ack, close, open, auth, timer } = JSON.parse(line, unpack)
  if (auth) socket.auth = auth
  if (emit && ack) socket.emit(emit, ...args, (...answer) => tell({ ack, args: answer }))
  else if (emit && timer) setInterval(() => socket.emit(emit, ...args), timer)
  else if (emit) socket.emit(emit, ...args)
  if (close) socket.disconnect()
  if (open) socket.connect()
}).on('close', () => process.exit(0))
