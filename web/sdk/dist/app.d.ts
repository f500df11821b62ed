import type { WxHub } from './hub';
/** What this file uses of `wx`. */
export interface WxApp {
    onAppShow(listener: () => void): void;
    onAppHide(listener: () => void): void;
    onNetworkStatusChange(listener: (result: {
        isConnected: boolean;
    }) => void): void;
}
/** Wakes the hub when the mini-program is shown again or the network returns, and hides it before it sleeps. */
export declare function followApp(hub: WxHub, wx: WxApp): void;
/** The same for a page in a browser. */
export declare function followPage(hub: WxHub): void;
