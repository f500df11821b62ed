import { type Transport } from '../transport';
/** What this transport uses of a SocketTask. */
export interface WxSocketTask {
    send(options: {
        data: string;
    }): void;
    close(options: {
        code?: number;
        reason?: string;
    }): void;
    onOpen(listener: () => void): void;
    onMessage(listener: (result: {
        data: string | ArrayBuffer;
    }) => void): void;
    onError(listener: (result: {
        errMsg: string;
    }) => void): void;
    onClose(listener: (result: {
        code: number;
        reason: string;
    }) => void): void;
}
/** What this transport uses of `wx`. */
export interface WxSockets {
    connectSocket(options: {
        url: string;
        header?: Record<string, string>;
        protocols?: string[];
        tcpNoDelay?: boolean;
        fail?: (result: {
            errMsg: string;
        }) => void;
    }): WxSocketTask;
}
/**
 * The sockets of a mini-program. The platform allows five in all (some devices two), so one hub is enough
 * for all pages. A failed handshake shows as an error, as a close without a code, or as both.
 */
export declare function wxTransport(wx: WxSockets): Transport;
