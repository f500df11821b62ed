// The real types of wx fit what the client asks of it: compiled, never run.
import { followApp, WxApi, WxHub, wxTransport } from '../../dist/index'

const api = new WxApi({ base: 'https://hub.example', wx })
const hub = new WxHub({ url: 'wss://hub.example/ws', getToken: api.token, transport: wxTransport(wx) })
followApp(hub, wx)
hub.connect()
