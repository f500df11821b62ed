import { useEffect, useSyncExternalStore } from 'react'
import { ChartLineIcon, ChatMessageIcon, LinkIcon, LogoutIcon, MailIcon, NotificationErrorIcon, NotificationIcon, RootListIcon, RotateIcon, UserIcon, ViewListIcon } from 'tdesign-icons-react'
import { ConfigProvider } from 'tdesign-react'
import english from 'tdesign-react/es/locale/en_US'
import chinese from 'tdesign-react/es/locale/zh_CN'
import { admin } from './api'
import { useAsked } from './asking'
import { setLanguage, useWords } from './language'
import { reconnect, useLine } from './live'
import { href, pages, usePlace, type Page, type Place } from './place'
import { logOut, useSession } from './session'
import { Alarms } from './pages/alarms'
import { Broadcast } from './pages/broadcast'
import { Fallbacks } from './pages/fallbacks'
import { Inbox } from './pages/inbox'
import { Links } from './pages/links'
import { Login } from './pages/login'
import { Messages } from './pages/messages'
import { Orders } from './pages/orders'
import { Overview } from './pages/overview'
import { Rooms } from './pages/rooms'
import { Users } from './pages/users'

const icons: Record<Page, typeof UserIcon> = {
  overview: ChartLineIcon, rooms: RootListIcon, broadcast: NotificationIcon, orders: ViewListIcon, inbox: ChatMessageIcon, users: UserIcon,
  messages: MailIcon, fallbacks: RotateIcon, links: LinkIcon, alarms: NotificationErrorIcon,
}

const ground = matchMedia('(prefers-color-scheme: dark)')

/** Light or dark as the person's machine wants it. */
function useDark(): boolean {
  const dark = useSyncExternalStore(
    (listener) => (ground.addEventListener('change', listener), () => ground.removeEventListener('change', listener)),
    () => ground.matches,
  )
  useEffect(() => document.documentElement.setAttribute('theme-mode', dark ? 'dark' : 'light'), [dark])
  return dark
}

export function App() {
  const { lang } = useWords()
  const session = useSession()
  const dark = useDark()
  return (
    <ConfigProvider globalConfig={lang === 'zh' ? chinese : english}>
      {session.token ? <Shell key={session.token} dark={dark} /> : <Login ended={session.ended} />}
    </ConfigProvider>
  )
}

function Shell({ dark }: { dark: boolean }) {
  const { t } = useWords()
  const place = usePlace()
  return (
    <div className="shell">
      <a className="skip" href="#content" onClick={(e) => (e.preventDefault(), document.getElementById('content')!.focus())}>{t('skip')}</a>
      <header className="bar">
        <a className="brand" href={href('overview')}><img src="/console/mark.svg" alt="" width="28" height="28" />{t('brand')}</a>
        <div className="tools">
          <Standing />
          <LanguageSwitch />
          <button type="button" className="icon" data-testid="logout" title={t('logout')} aria-label={t('logout')} onClick={leave}><LogoutIcon size="18px" /></button>
        </div>
      </header>
      <nav className="nav" aria-label={t('pages')}>
        {pages.map((page) => {
          const Icon = icons[page]
          return (
            <a key={page} href={href(page)} data-testid={`nav-${page}`} aria-current={page === place.page ? 'page' : undefined}>
              <Icon size="20px" aria-hidden="true" /><span>{t(`page.${page}`)}</span>
              {page === 'alarms' && <OpenAlarms />}
            </a>
          )
        })}
        <div className="more">
          <a href="/docs/" target="_blank" rel="noreferrer">{t('docs')}</a>
          <a href="/docs/api/" target="_blank" rel="noreferrer">{t('apiDocs')}</a>
        </div>
      </nav>
      <main id="content" tabIndex={-1}><Content place={place} dark={dark} /></main>
    </div>
  )
}

function Content({ place, dark }: { place: Place; dark: boolean }) {
  switch (place.page) {
    case 'overview': return <Overview dark={dark} />
    case 'rooms': return <Rooms room={place.about} />
    case 'broadcast': return <Broadcast query={place.query} />
    case 'orders': return <Orders outTradeNo={place.about} userId={place.query.get('userId') ?? ''} />
    case 'inbox': return <Inbox open={place.about} />
    case 'users': return <Users user={place.about} />
    case 'messages': return <Messages id={place.about} />
    case 'fallbacks': return <Fallbacks />
    case 'links': return <Links />
    case 'alarms': return <Alarms />
  }
}

/** How many alarms nobody has acknowledged yet. */
function OpenAlarms() {
  const { t } = useWords()
  const { data } = useAsked('open', (signal) => admin.alarms('open', signal), 15_000)
  return data?.length ? <em data-testid="alarms-open" aria-label={t('alarms.open', { n: data.length })}>{data.length > 99 ? '99+' : data.length}</em> : null
}

/** This tab forgets the token at once; the hub kills it. If it cannot be told, the token dies of age. */
function leave() {
  admin.logout().catch(() => {})
  logOut()
}

/** How the socket stands: live pages live by it. Where the hub sent us away, a click tries once more. */
function Standing() {
  const { t } = useWords()
  const state = useLine()
  return (
    <span className="line" data-testid="line" data-state={state} role="status">
      <i />
      {state === 'disconnected' ? <button type="button" className="link" onClick={reconnect}>{t('line.reconnect')}</button> : t(`line.${state}`)}
    </span>
  )
}

export function LanguageSwitch() {
  const { lang } = useWords()
  const other = lang === 'zh' ? 'en' : 'zh'
  return (
    <button type="button" className="lang" data-testid="lang-switch" lang={other === 'zh' ? 'zh-CN' : 'en'} onClick={() => setLanguage(other)}>
      {other === 'zh' ? '中文' : 'English'}
    </button>
  )
}
