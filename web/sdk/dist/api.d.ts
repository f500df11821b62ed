/** A thing the shop sells. The server alone decides amounts. */
export interface Product {
    id: string;
    name: string;
    nameEn?: string;
    description?: string;
    /** fen */
    price: number;
    /** URL, absolute or relative to the hub */
    picture?: string;
}
export interface User {
    id: string;
    nickname?: string;
    avatar?: string;
}
export type OrderState = 'created' | 'paying' | 'paid' | 'closed' | 'refunding' | 'refunded';
export interface Order {
    outTradeNo: string;
    state: OrderState;
    /** fen */
    total: number;
    description: string;
    /** milliseconds */
    paidAt?: number;
}
/** The five fields that wx.requestPayment takes. */
export interface PaymentFields {
    timeStamp: string;
    nonceStr: string;
    package: string;
    signType: string;
    paySign: string;
}
/** What this file uses of `wx`. */
export interface WxPlatform {
    login(options: {
        success(result: {
            code: string;
        }): void;
        fail?(result: {
            errMsg: string;
        }): void;
    }): void;
    request(options: {
        url: string;
        method?: 'GET' | 'POST' | 'DELETE';
        data?: object;
        header?: Record<string, string>;
        success(result: {
            statusCode: number;
            data: unknown;
        }): void;
        fail?(result: {
            errMsg: string;
        }): void;
    }): unknown;
    requestPayment(options: PaymentFields & {
        signType: 'RSA' | 'MD5' | 'HMAC-SHA256';
        success(): void;
        fail?(result: {
            errMsg: string;
        }): void;
    }): void;
}
/** What the person agreed to give at login, from wx.getUserProfile or the old wx.getUserInfo. */
export interface Profile {
    rawData?: string;
    signature?: string;
    encryptedData?: string;
    iv?: string;
}
/** A refusal of the hub's HTTP side, or of the platform (`error` "wx", the message is its errMsg). */
export declare class ApiError extends Error {
    readonly status: number;
    readonly error: string;
    constructor(status: number, error: string, message: string);
}
/**
 * WxApi is the HTTP side for a mini-program: login, catalogue, payment, orders. It signs in by itself when a
 * call needs it, and once again when the token turns out dead.
 *
 *     const api = new WxApi({ base: 'https://hub.example', wx })
 *     const hub = new WxHub({ url: 'wss://hub.example/ws', getToken: api.token, transport: wxTransport(wx) })
 *     const { outTradeNo } = await api.pay({ productId: 'tea' })
 */
export declare class WxApi {
    private readonly options;
    user: User | undefined;
    private held;
    private heldUntil;
    private signingIn;
    constructor(options: {
        base: string;
        wx: WxPlatform;
    });
    /** wx.login, then the hub's login. Calls at the same time share one, since a code works once. */
    login(profile?: Profile): Promise<User>;
    /** A token that is good for another minute at least; fits HubOptions.getToken. */
    readonly token: (fresh?: boolean) => Promise<string>;
    products(): Promise<Product[]>;
    orders(): Promise<Order[]>;
    /** A pending order asks WeChat what became of it. */
    order(outTradeNo: string): Promise<Order>;
    /**
     * Orders, shows the pay sheet and resolves when the person has paid. The shop counts it as paid when WeChat
     * says so: ask order(), or wait for the mail "order.paid". Rejects with ApiError "wx" when the person cancels
     * ("requestPayment:fail cancel").
     */
    pay(what: {
        productId: string;
        quantity?: number;
    } | {
        outTradeNo: string;
    }): Promise<{
        outTradeNo: string;
    }>;
    /** Any call of the hub as this person; resolves with the answer's data. */
    call<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<T>;
    private signIn;
    private send;
}
