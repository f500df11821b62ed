import { useState } from 'react'
import { ChevronLeftIcon, RootListIcon, SearchIcon, UserIcon } from 'tdesign-icons-react'
import { Input, Tag } from 'tdesign-react'
import { admin, type Push, type RoomView } from '../api'
import { useAsked } from '../asking'
import { clock, figure, fullTime, moment } from '../format'
import { useWords } from '../language'
import { useLine, useRoom } from '../live'
import { go, href } from '../place'
import { Button } from '../parts/button'
import { Named } from '../parts/field'
import { Grid } from '../parts/grid'
import { Empty, Failure, Waiting } from '../parts/state'

const shown = 100 // messages of a room that stay on the page

export function Rooms({ room }: { room: string }) {
  return room ? <Room key={room} room={room} /> : <List />
}

function List() {
  const { t, lang } = useWords()
  const [wanted, setWanted] = useState('')
  const { data, failure, loading, again } = useAsked('rooms', admin.rooms, 3000)
  const rows = data?.filter((r) => r.room.toLowerCase().includes(wanted.trim().toLowerCase()))
  return (
    <>
      <header className="heading">
        <h1>{t('page.rooms')}</h1>
        <form className="find" onSubmit={(e) => (e.preventDefault(), wanted.trim() && go(href('rooms', wanted.trim())))}>
          <Named name={t('rooms.find')}><Input prefixIcon={<SearchIcon />} clearable placeholder={t('rooms.find')} value={wanted} onChange={setWanted} /></Named>
        </form>
      </header>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {rows?.length === 0 && (
        <Empty icon={<RootListIcon size="40px" />} title={wanted ? t('rooms.noneFound') : t('rooms.none')}>
          {wanted ? t('rooms.openAnyway') : t('rooms.noneLead')}
        </Empty>
      )}
      {rows && rows.length > 0 && (
        <section className="panel">
          <Grid
            label={t('page.rooms')} rows={rows} keyOf={(r) => r.room} onOpen={(r) => go(href('rooms', r.room))} testid={(r) => `room-${r.room}`}
            columns={[
              { name: t('rooms.room'), main: true, cell: (r) => <code>{r.room}</code> },
              { name: t('stat.users'), right: true, cell: (r) => figure(r.users, lang) },
              { name: t('stat.sockets'), right: true, cell: (r) => figure(r.sockets, lang) },
              { name: t('rooms.offset'), right: true, cell: (r) => r.offset },
              { name: t('rooms.epoch'), cell: (r) => <code className="soft">{r.epoch || '–'}</code> },
            ]}
          />
        </section>
      )}
    </>
  )
}

const sameMessage = (a: Push, b: Push) =>
  a.meta.offset ? a.meta.offset === b.meta.offset && a.meta.epoch === b.meta.epoch : Boolean(a.meta.id) && a.meta.id === b.meta.id

/** The room's history with what came live since, oldest first; what both have stands once. */
export function withLive(view: RoomView, live: Push[]): Push[] {
  const fresh = live.filter((push) => !view.messages.some((m) => sameMessage(m, push)))
  return [...view.messages, ...fresh].sort((a, b) => a.meta.timestamp - b.meta.timestamp).slice(-shown)
}

function Room({ room }: { room: string }) {
  const { t, lang } = useWords()
  const line = useLine()
  const { data, failure, loading, again } = useAsked(room, (signal) => admin.room(room, signal), 5000)
  const [refused, setRefused] = useState('')
  const [live, setLive] = useState<Push[]>([])
  const reload = () => {
    setLive([])
    again()
  }
  useRoom(room, {
    onMessage: (push) => setLive((list) => [...list, push].slice(-shown)),
    onPresence: again,
    onReload: reload,
    onJoin: () => setRefused(''),
    onError: (error) => setRefused(error.message),
  })
  const messages = data ? withLive(data, live).reverse() : []
  const offset = Math.max(data?.offset ?? 0, ...messages.filter((m) => m.meta.epoch === data?.epoch).map((m) => m.meta.offset ?? 0))
  return (
    <>
      <header className="heading">
        <h1><a className="back" href={href('rooms')} aria-label={t('back')}><ChevronLeftIcon size="24px" /></a><code>{room}</code></h1>
        <Button variant="outline" href={href('broadcast', '', { room })}>{t('rooms.say')}</Button>
      </header>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {data && (
        <div className="split">
          <section className="panel stream">
            <h2 className="title">
              {t('rooms.messages')}
              <span className="line" data-state={refused ? 'disconnected' : line}><i />{refused || t(line === 'connected' ? 'rooms.live' : 'rooms.notLive')}</span>
            </h2>
            {messages.length === 0 && <p className="none">{t('rooms.noMessages')}</p>}
            <ol>
              {messages.map((m, i) => (
                <li key={m.meta.id ?? `${m.meta.offset}-${m.meta.timestamp}-${i}`} data-testid="room-message">
                  <p>
                    <b>{m.data.action}</b>
                    {m.meta.offset != null && <span className="soft">#{m.meta.offset}</span>}
                    <time dateTime={new Date(m.meta.timestamp).toISOString()} title={fullTime(m.meta.timestamp, lang)}>
                      {moment(m.meta.timestamp).slice(0, -5)}{clock(m.meta.timestamp)}
                    </time>
                  </p>
                  <pre>{JSON.stringify(m.data.payload)}</pre>
                </li>
              ))}
            </ol>
          </section>
          <section className="panel who">
            <h2 className="title">{t('rooms.presence')} <small>{figure(data.count, lang)}</small></h2>
            {data.users === null && <p className="none">{t('rooms.countOnly')}</p>}
            {data.users?.length === 0 && <p className="none">{t('rooms.nobody')}</p>}
            <ul>
              {data.users?.map((u) => (
                <li key={u.id}>
                  <UserIcon aria-hidden="true" /><a href={href('users', u.id)}>{u.id}</a>
                  {u.sockets > 1 && <Tag size="small" variant="light">{t('rooms.socketsOf', { n: u.sockets })}</Tag>}
                </li>
              ))}
            </ul>
            <dl className="facts">
              <dt>{t('rooms.epoch')}</dt><dd><code>{data.epoch || '–'}</code></dd>
              <dt>{t('rooms.offset')}</dt><dd>{offset}</dd>
            </dl>
          </section>
        </div>
      )}
    </>
  )
}
