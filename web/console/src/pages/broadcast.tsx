import { useState } from 'react'
import { CheckCircleFilledIcon, CloseCircleFilledIcon, NotificationIcon, ShopIcon } from 'tdesign-icons-react'
import { Checkbox, Input, Radio, TagInput, Textarea } from 'tdesign-react'
import { admin, type Broadcast as Request, type BroadcastResult } from '../api'
import { useDoing } from '../asking'
import { useWords, type Say } from '../language'
import { checkJSON, names, preview } from '../payload'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Grid } from '../parts/grid'
import { Failure } from '../parts/state'

type To = 'rooms' | 'users' | 'all'

const roomName = /^[A-Za-z0-9_.:-]{1,128}$/
const userID = /^[A-Za-z0-9_.-]{1,64}$/
const reserved = [
  'welcome', 'join', 'leave', 'refused', 'exchange',
  'connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener',
]
/** What the server takes as an action: see its badAction. */
const goodAction = (name: string) =>
  new TextEncoder().encode(name).length <= 128 && !/\p{Cc}/u.test(name) && !reserved.includes(name)
const key = /^[A-Za-z0-9_.:-]{1,128}$/

const newID = () => `console:${new Date().toISOString().slice(0, 10)}:${crypto.getRandomValues(new Uint32Array(2)).reduce((s, n) => s + n.toString(36), '')}`
const pretty = (value: unknown) => JSON.stringify(value, null, 2)

/** Ready-made beginnings, in the reader's language. */
const samples = (t: Say) => ({
  purchase: { action: 'purchase', payload: { buyer: t('sample.buyer'), product: t('sample.product'), quantity: 1, at: Date.now() } },
  announcement: { action: 'announcement', payload: { title: t('sample.title'), text: t('sample.text') } },
})

export function Broadcast({ query }: { query: URLSearchParams }) {
  const { t } = useWords()
  const [to, setTo] = useState<To>(query.has('user') ? 'users' : 'rooms')
  const [rooms, setRooms] = useState(query.get('room') ? [query.get('room')!] : ['notice'])
  const [users, setUsers] = useState(query.get('user') ? [query.get('user')!] : [])
  const [live, setLive] = useState(false)
  const [action, setAction] = useState('announcement')
  const [text, setText] = useState(() => pretty(samples(t).announcement.payload))
  const [id, setID] = useState(newID)
  const [sent, setSent] = useState<{ id: string; said: string }>()
  const [result, setResult] = useState<BroadcastResult>()
  const doing = useDoing()

  const payload = text.trim() === '' ? ({ ok: true, value: null } as const) : checkJSON(text)
  const receivers = to === 'rooms' ? rooms : users
  const strange = to === 'all' ? undefined : receivers.find((name) => !(to === 'rooms' ? roomName : userID).test(name))
  const wrong = {
    receivers: strange !== undefined ? t('broadcast.badName', { name: strange }) : '',
    action: action && !goodAction(action) ? t('broadcast.badAction') : '',
    payload: payload.ok ? '' : t('broadcast.badJSON', { line: payload.line, column: payload.column }),
    id: id && !key.test(id) ? t('broadcast.badID') : '',
  }
  const ready = action !== '' && (to === 'all' || receivers.length > 0) && Object.values(wrong).every((w) => w === '')

  // By its button alone: Enter in a field takes a name, and nobody talks to everyone by a slip of it.
  const send = async () => {
    if (!ready || doing.busy || !payload.ok) return
    const request: Request = { action }
    if (to === 'all') request.all = true
    if (to === 'rooms') request.rooms = rooms
    if (to === 'users') Object.assign(request, { users, ...(live && { live }) })
    const json = text.trim() || 'null'
    const said = JSON.stringify(request) + json
    const own = sent && sent.id === id && sent.said !== said ? newID() : id // something else, under a number of its own
    setID(own)
    setSent({ id: own, said })
    setResult(undefined)
    const answer = await doing.run(() => admin.broadcast({ ...request, ...(own && { id: own }) }, json))
    if (answer) setResult(answer)
  }
  const another = () => {
    setID(newID())
    setResult(undefined)
    doing.clear()
  }
  const fill = (name: 'purchase' | 'announcement') => {
    const sample = samples(t)[name]
    setAction(sample.action)
    setText(pretty(sample.payload))
  }
  const target = to === 'all' ? t('broadcast.sendAll') : t(to === 'rooms' ? 'broadcast.sendRooms' : 'broadcast.sendUsers', { n: receivers.length })
  return (
    <>
      <header className="heading"><h1>{t('page.broadcast')}</h1></header>
      <div className="split">
        <form className="panel pad" onSubmit={(e) => e.preventDefault()}>
          <Field label={t('broadcast.to')} group hint={t(`broadcast.to.${to}`)}>
            <Radio.Group variant="default-filled" value={to} onChange={(v) => setTo(v as To)}>
              <Radio.Button value="rooms">{t('broadcast.rooms')}</Radio.Button>
              <Radio.Button value="users">{t('broadcast.users')}</Radio.Button>
              <Radio.Button value="all">{t('broadcast.all')}</Radio.Button>
            </Radio.Group>
          </Field>
          {to === 'rooms' && (
            <Field label={t('broadcast.roomNames')} hint={t('broadcast.enter')} wrong={wrong.receivers} testid="broadcast-rooms">
              <Names value={rooms} onChange={setRooms} />
            </Field>
          )}
          {to === 'users' && (
            <>
              <Field label={t('broadcast.userIDs')} hint={t('broadcast.enter')} wrong={wrong.receivers} testid="broadcast-users">
                <Names value={users} onChange={setUsers} />
              </Field>
              <Checkbox checked={live} onChange={setLive}>{t('broadcast.live')}</Checkbox>
            </>
          )}
          <Field label={t('broadcast.action')} wrong={wrong.action} testid="broadcast-action" hint={<>
            {t('broadcast.samples')}{' '}
            <button type="button" className="link" onClick={() => fill('announcement')}>{t('sample.announcement')}</button>{' · '}
            <button type="button" className="link" data-testid="sample-purchase" onClick={() => fill('purchase')}>{t('sample.purchase')}</button>
          </>}>
            <Input value={action} onChange={setAction} placeholder="announcement" />
          </Field>
          <Field label={t('broadcast.payload')} wrong={wrong.payload} testid="broadcast-payload" hint={t('broadcast.payloadHint')}>
            <Textarea className="code" value={text} onChange={(v) => setText(String(v))} />
          </Field>
          <Field label={t('broadcast.id')} wrong={wrong.id} testid="broadcast-id" hint={t('broadcast.idHint')}>
            <Input value={id} onChange={setID} />
          </Field>
          <Failure of={doing.failure} />
          <Button type="button" size="large" onClick={() => void send()} data-testid="broadcast-send" loading={doing.busy} disabled={!ready}>{target}</Button>
        </form>
        <Phone value={payload.ok ? payload.value : undefined} action={action} place={to === 'rooms' ? rooms[0] ?? '' : to === 'users' ? t('broadcast.mail') : 'all'} />
      </div>
      {result && <Outcome of={result} another={another} />}
    </>
  )
}

function Names({ value, onChange }: { value: string[]; onChange: (v: string[]) => void }) {
  const [typed, setTyped] = useState('')
  const take = (text: string) => {
    const more = names(text)
    if (more.length) onChange([...new Set([...value, ...more])])
    setTyped('')
  }
  return (
    <TagInput
      value={value} inputValue={typed} clearable placeholder=""
      onInputChange={(v) => (/[\s,，;；、]/.test(v) ? take(v) : setTyped(v))}
      onChange={(v, { trigger }) => {
        if (trigger === 'enter') return take(typed)
        onChange(v.map(String))
      }}
      onBlur={() => take(typed)}
      onPaste={({ pasteValue }) => void (/[\s,，;；、]/.test(pasteValue) && setTimeout(() => take(pasteValue)))}
    />
  )
}

/** What a phone in the room shows. */
function Phone({ value, action, place }: { value: unknown; action: string; place: string }) {
  const { t } = useWords()
  const p = value === undefined ? undefined : preview(value)
  return (
    <aside className="preview" aria-label={t('broadcast.preview')}>
      <div className="phone">
        <header><time>20:00</time><i /></header>
        <b className="place">{place}</b>
        {p && (
          <div className="toast" data-testid="preview">
            <span className={p.kind === 'purchase' ? 'mark' : 'mark horn'}>{p.kind === 'purchase' ? <ShopIcon size="18px" /> : <NotificationIcon size="18px" />}</span>
            {p.kind === 'purchase' && <p><b>{p.buyer || t('preview.somebody')}</b>{p.quantity > 1 ? t('preview.boughtMany', { product: p.product, n: p.quantity }) : t('preview.bought', { product: p.product })}</p>}
            {p.kind === 'text' && <p>{p.title && <b className="whole">{p.title}</b>}{p.text}</p>}
            {p.kind === 'json' && <p><b className="whole">{action || '…'}</b><code>{p.text.slice(0, 160)}</code></p>}
            <small>{t('preview.now')}</small>
          </div>
        )}
        <div className="ghosts"><i /><i /><i /><i /></div>
      </div>
      <p className="fine">{t('broadcast.previewLead')}</p>
    </aside>
  )
}

function Outcome({ of, another }: { of: BroadcastResult; another: () => void }) {
  const { t } = useWords()
  const failed = of.results.filter((r) => r.error).length
  return (
    <section className="panel" data-testid="broadcast-result" role="status">
      <h2 className="title">
        <span className={failed ? 'bad mark' : 'good mark'}>{failed ? <CloseCircleFilledIcon size="20px" /> : <CheckCircleFilledIcon size="20px" />}</span>
        {failed ? t('broadcast.partly', { n: failed }) : t('broadcast.said', { n: of.results.length })}
        <Button variant="outline" size="small" data-testid="broadcast-another" onClick={another}>{t('broadcast.another')}</Button>
      </h2>
      <p className="soft inset">{t('broadcast.idWas')} <code>{of.id}</code></p>
      <Grid
        label={t('broadcast.results')} rows={of.results} keyOf={(r) => r.room}
        columns={[
          { name: t('rooms.room'), main: true, cell: (r) => <code>{r.room}</code> },
          { name: t('rooms.offset'), right: true, cell: (r) => r.offset ?? '–' },
          { name: t('rooms.epoch'), cell: (r) => <code className="soft">{r.epoch ?? '–'}</code> },
          {
            name: t('broadcast.outcome'),
            cell: (r) => (r.error ? <a className="bad" href={`/docs/errors/${encodeURIComponent(r.error)}`} target="_blank" rel="noreferrer">{r.error}</a> : <span className="good">{t('broadcast.ok')}</span>),
          },
        ]}
      />
    </section>
  )
}
