/** A thing the shop sells. The server alone decides amounts. */
export interface Product {
  id: string
  name: string
  nameEn?: string
  description?: string
  /** fen */
  price: number
  /** URL, absolute or relative to the hub */
  picture?: string
}

export interface User {
  id: string
  nickname?: string
  avatar?: string
}

export type OrderState = 'created' | 'paying' | 'paid' | 'closed' | 'refunding' | 'refunded'

export interface Order {
  outTradeNo: string
  state: OrderState
  /** fen */
  total: number
  description: string
  /** milliseconds */
  paidAt?: number
}

/** The five fields that wx.requestPayment takes. */
export interface PaymentFields {
  timeStamp: string
  nonceStr: string
  package: string
  signType: string
  paySign: string
}

/** What this file uses of `wx`. */
export interface WxPlatform {
  login(options: {
    success(result: { code: string }): void
    fail?(result: { errMsg: string }): void
  }): void
  request(options: {
    url: string
    method?: 'GET' | 'POST' | 'DELETE'
    data?: object
    header?: Record<string, string>
    success(result: { statusCode: number; data: unknown }): void
    fail?(result: { errMsg: string }): void
  }): unknown
  requestPayment(options: PaymentFields & {
    signType: 'RSA' | 'MD5' | 'HMAC-SHA256'
    success(): void
    fail?(result: { errMsg: string }): void
  }): void
}

/** What the person agreed to give at login, from wx.getUserProfile or the old wx.getUserInfo. */
export interface Profile {
  rawData?: string
  signature?: string
  encryptedData?: string
  iv?: string
}

/** A refusal of the hub's HTTP side, or of the platform (`error` "wx", the message is its errMsg). */
export class ApiError extends Error {
  readonly status: number
  readonly error: string

  constructor(status: number, error: string, message: string) {
    super(message)
    this.name = 'ApiError'
    this.status = status
    this.error = error
  }
}

/**
 * WxApi is the HTTP side for a mini-program: login, catalogue, payment, orders. It signs in by itself when a
 * call needs it, and once again when the token turns out dead.
 *
 *     const api = new WxApi({ base: 'https://hub.example', wx })
 *     const hub = new WxHub({ url: 'wss://hub.example/ws', getToken: api.token, transport: wxTransport(wx) })
 *     const { outTradeNo } = await api.pay({ productId: 'tea' })
 */
export class WxApi {
  user: User | undefined
  private held = ''
  private heldUntil = 0
  private signingIn: Promise<User> | undefined

  constructor(private readonly options: { base: string; wx: WxPlatform }) {}

  /** wx.login, then the hub's login. Calls at the same time share one, since a code works once. */
  login(profile: Profile = {}): Promise<User> {
    this.signingIn ??= this.signIn(profile).finally(() => {
      this.signingIn = undefined
    })
    return this.signingIn
  }

  /** A token that is good for another minute at least; fits HubOptions.getToken. */
  readonly token = async (fresh = false): Promise<string> => {
    if (fresh || !this.held || Date.now() > this.heldUntil - 60_000) await this.login()
    return this.held
  }

  products(): Promise<Product[]> {
    return this.call('GET', '/api/products')
  }

  orders(): Promise<Order[]> {
    return this.call('GET', '/api/orders')
  }

  /** A pending order asks WeChat what became of it. */
  order(outTradeNo: string): Promise<Order> {
    return this.call('GET', `/api/orders/${encodeURIComponent(outTradeNo)}`)
  }

  /**
   * Orders, shows the pay sheet and resolves when the person has paid. The shop counts it as paid when WeChat
   * says so: ask order(), or wait for the mail "order.paid". Rejects with ApiError "wx" when the person cancels
   * ("requestPayment:fail cancel").
   */
  async pay(what: { productId: string; quantity?: number } | { outTradeNo: string }): Promise<{ outTradeNo: string }> {
    const body = 'productId' in what ? { productId: what.productId, quantity: what.quantity ?? 1 } : what
    const { outTradeNo, ...fields } = await this.call<PaymentFields & { outTradeNo: string }>('POST', '/api/pay', body)
    await new Promise<void>((resolve, reject) => {
      this.options.wx.requestPayment({
        timeStamp: fields.timeStamp,
        nonceStr: fields.nonceStr,
        package: fields.package,
        signType: fields.signType as 'RSA',
        paySign: fields.paySign,
        success: () => resolve(),
        fail: (result) => reject(new ApiError(0, 'wx', result.errMsg)),
      })
    })
    return { outTradeNo }
  }

  /** Any call of the hub as this person; resolves with the answer's data. */
  async call<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<T> {
    const token = await this.token()
    try {
      return await this.send<T>(method, path, body, token)
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401) throw error
      return this.send<T>(method, path, body, await this.token(this.held === token))
    }
  }

  private async signIn(profile: Profile): Promise<User> {
    const code = await new Promise<string>((resolve, reject) => {
      this.options.wx.login({
        success: (result) => resolve(result.code),
        fail: (result) => reject(new ApiError(0, 'wx', result.errMsg)),
      })
    })
    const answer = await this.send<{ token: string; expiresIn: number; user: User }>('POST', '/api/login', { code, ...profile })
    this.held = answer.token
    this.heldUntil = Date.now() + answer.expiresIn * 1000
    this.user = answer.user
    return answer.user
  }

  private send<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object, token?: string): Promise<T> {
    return new Promise((resolve, reject) => {
      this.options.wx.request({
        url: this.options.base + path,
        method,
        data: body,
        header: {
          ...(body && { 'Content-Type': 'application/json' }),
          ...(token && { Authorization: `Bearer ${token}` }),
        },
        success: ({ statusCode, data }) => {
          const envelope = data as { code?: number; data?: T; error?: string; message?: string } | null
          if (envelope?.code === 1) return resolve(envelope.data as T)
          const word = envelope?.error ?? 'bad_answer'
          // A hub that always answers 200 tells a dead token by its word alone.
          const status = statusCode === 200 && deadToken.has(word) ? 401 : statusCode
          reject(new ApiError(status, word, envelope?.message ?? `HTTP ${statusCode}`))
        },
        fail: (result) => reject(new ApiError(0, 'wx', result.errMsg)),
      })
    })
  }
}

const deadToken = new Set(['unauthorized', 'bad_token', 'token_expired', 'token_revoked'])
