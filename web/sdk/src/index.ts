export { WxHub } from './hub'
export type { HubEvents, HubOptions, Membership, State, StateChange } from './options'
export type { RoomHandlers } from './room'
export {
  CloseCode, HubError,
  type History, type HistoryQuery, type Meta, type Position, type Presence, type Push, type Standing, type Welcome,
} from './protocol'
export type { Backoff } from './backoff'
export type { Line, LineEvents, Target, Transport } from './transport'
export { wxTransport, type WxSockets, type WxSocketTask } from './transports/wx'
export { browserTransport } from './transports/browser'
export { followApp, followPage, type WxApp } from './app'
export {
  ApiError, WxApi,
  type Order, type OrderState, type PaymentFields, type Product, type Profile, type User, type WxPlatform,
} from './api'
