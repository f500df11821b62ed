// Socket.IO as its guide sets it up for many clients: websocket only, one room for each client, publishing by HTTP.
import { createServer } from 'node:http'
import { createSecretKey, createHmac, timingSafeEqual } from 'node:crypto'
import { Server } from 'socket.io'

const key = createSecretKey(Buffer.from(process.env.SECRET))

// known checks an HS256 token and that it is still good.
function known(token) {
  const [head, body, signature] = String(token).split('.')
  const want = createHmac('sha256', key).update(`${head}.${body}`).digest()
  const got = Buffer.from(signature ?? '', 'base64url')
  return got.length === want.length && timingSafeEqual(got, want) &&
    JSON.parse(Buffer.from(body, 'base64url')).exp * 1000 > Date.now()
}

const web = createServer((request, response) => {
  const parts = []
  request.on('data', part => parts.push(part))
  request.on('end', () => {
    const room = new URL(request.url, 'http://localhost').searchParams.get('room')
    io.to(room).emit('loadtest', JSON.parse(Buffer.concat(parts)))
    response.end()
  })
})
const io = new Server(web, { transports: ['websocket'], serveClient: false })
io.engine.on('connection', socket => { socket.request = null }) // the guide's advice against memory
io.use((socket, next) => next(known(socket.handshake.auth.token) ? undefined : new Error('token')))
io.on('connection', socket => {
  socket.join(socket.handshake.auth.room)
  socket.emit('welcome')
})
web.listen(Number(process.env.PORT), '127.0.0.1')
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))
