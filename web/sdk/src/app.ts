import type { WxHub } from './hub'

/** What this file uses of `wx`. */
export interface WxApp {
  onAppShow(listener: () => void): void
  onAppHide(listener: () => void): void
  onNetworkStatusChange(listener: (result: { isConnected: boolean }) => void): void
}

/** Wakes the hub when the mini-program is shown again or the network returns, and hides it before it sleeps. */
export function followApp(hub: WxHub, wx: WxApp): void {
  wx.onAppShow(() => hub.wake())
  wx.onAppHide(() => hub.hide())
  wx.onNetworkStatusChange((result) => {
    if (result.isConnected) hub.wake()
  })
}

/** The same for a page in a browser. */
export function followPage(hub: WxHub): void {
  document.addEventListener('visibilitychange', () => (document.hidden ? hub.hide() : hub.wake()))
  window.addEventListener('online', () => hub.wake())
}
