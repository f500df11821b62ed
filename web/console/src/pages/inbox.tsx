import { useEffect, useRef, useState, type FormEvent } from 'react'
import { ChatMessageIcon, ChevronLeftIcon, ImageIcon, SendIcon } from 'tdesign-icons-react'
import { Textarea } from 'tdesign-react'
import { admin, type Conversation, type TalkItem } from '../api'
import { useAsked, useDoing } from '../asking'
import { fullTime, moment, span } from '../format'
import { useWords } from '../language'
import { useRoom } from '../live'
import { href } from '../place'
import { Button } from '../parts/button'
import { Modal } from '../parts/modal'
import { Empty, Failure, Waiting } from '../parts/state'

/** The customers' conversations. What room kf hears of one makes us ask for it at once; otherwise every so often. */
export function Inbox({ open }: { open: string }) {
  const { t } = useWords()
  const { data, failure, loading, again, change } = useAsked('conversations', admin.conversations, 20_000)
  const [heard, setHeard] = useState(0)
  useRoom('kf', {
    onMessage: () => {
      again()
      setHeard((n) => n + 1)
    },
    onReload: () => setHeard((n) => n + 1),
  })
  const rows = data && [...data].sort((a, b) => b.lastAt - a.lastAt)
  return (
    <>
      <header className="heading"><h1>{t('page.inbox')}</h1></header>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {rows?.length === 0 && !open && <Empty icon={<ChatMessageIcon size="40px" />} title={t('inbox.none')}>{t('inbox.noneLead')}</Empty>}
      {rows && (rows.length > 0 || open) && (
        <div className={open ? 'inbox opened' : 'inbox'}>
          <ul className="panel talks" aria-label={t('inbox.conversations')}>{rows.map((c) => <Entry key={c.id} of={c} open={c.id === open} />)}</ul>
          {open ? (
            <TalkView
              key={open} id={open} heard={heard}
              onSeen={() => change((list) => list.map((c) => (c.id === open ? { ...c, unread: 0 } : c)))}
            />
          ) : (
            <section className="panel pick"><Empty icon={<ChatMessageIcon size="40px" />} title={t('inbox.pick')} /></section>
          )}
        </div>
      )}
    </>
  )
}

const hue = (text: string) => [...text].reduce((n, c) => (n * 31 + c.codePointAt(0)!) % 9973, 7) * 137 % 360

function Face({ name, id }: { name: string; id: string }) {
  return <span className="face" style={{ background: `hsl(${hue(id)} 42% 40%)` }} aria-hidden="true">{[...name][0] ?? '?'}</span>
}

function Entry({ of, open }: { of: Conversation; open: boolean }) {
  const { t } = useWords()
  const name = of.nickname || of.user || of.id
  return (
    <li>
      <a href={href('inbox', of.id)} data-testid={`conversation-${of.id}`} aria-current={open || undefined}>
        <Face name={name} id={of.id} />
        <span className="what"><b>{name}</b><span>{of.lastText || t('inbox.noText')}</span></span>
        <span className="when">
          <time>{moment(of.lastAt)}</time>
          {of.unread > 0 && <em aria-label={t('inbox.unread', { n: of.unread })}>{of.unread > 99 ? '99+' : of.unread}</em>}
        </span>
      </a>
    </li>
  )
}

function TalkView({ id, heard, onSeen }: { id: string; heard: number; onSeen: () => void }) {
  const { t, lang } = useWords()
  const { data, failure, loading, again } = useAsked(id, (signal) => admin.conversation(id, signal), 20_000)
  const [text, setText] = useState('')
  const [now, setNow] = useState(Date.now)
  const doing = useDoing()
  const end = useRef<HTMLLIElement>(null)
  const count = data?.messages.length ?? 0
  useEffect(() => {
    if (heard) again()
  }, [heard, again])
  useEffect(() => {
    end.current?.scrollIntoView({ block: 'nearest' })
    if (count) onSeen()
    // Seen is what was shown; the list's other changes do not matter here.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [count])
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 30_000)
    return () => clearInterval(timer)
  }, [])
  const until = data?.replyUntil ?? 0
  const left = until - now
  const send = async (e?: FormEvent) => {
    e?.preventDefault()
    const words = text.trim()
    if (!words || doing.busy || left <= 0) return
    const answer = await doing.run(() => admin.reply(id, { text: words }))
    if (answer) setText('')
    again()
  }
  useTyping(id, text, left > 0, (data?.messages ?? []).reduce((at, m) => (m.from === 'user' ? Math.max(at, m.at) : at), 0))
  const name = data?.nickname || data?.user || id
  return (
    <section className="panel talk" aria-label={t('inbox.with', { name })}>
      <header>
        <a className="back" href={href('inbox')} aria-label={t('back')}><ChevronLeftIcon size="24px" /></a>
        <Face name={name} id={id} />
        <div><h2>{name}</h2>{data?.user && <a className="soft" href={href('users', data.user)}>{data.user}</a>}</div>
      </header>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {data && (
        <>
          <ol className="lines" tabIndex={0} aria-live="polite">
            {data.messages.length === 0 && <li className="none">{t('inbox.noMessages')}</li>}
            {data.messages.map((m, i) => <Line key={m.id} of={m} before={data.messages[i - 1]} />)}
            <li ref={end} aria-hidden="true" />
          </ol>
          <p className={left > 0 ? 'window' : 'window over'} data-testid="reply-window" title={until ? fullTime(until, lang) : undefined}>
            {left > 0 ? t('inbox.until', { at: moment(until), span: span(left, lang) }) : t('inbox.over')}
            {left > 0 && <span className="keys">{t('inbox.keys')}</span>}
          </p>
          <Failure of={doing.failure} />
          <form onSubmit={send}>
            <PictureButton id={id} disabled={left <= 0} onSent={again} />
            <ReplyInput disabled={left <= 0} value={text} onChange={setText} onSend={() => void send()} />
            <Button type="submit" data-testid="reply-send" loading={doing.busy} disabled={left <= 0 || !text.trim()} icon={<SendIcon />}>{t('inbox.send')}</Button>
          </form>
        </>
      )}
    </section>
  )
}

const typingEvery = 8000 // ms; WeChat shows it for some seconds
const typingWithin = 30_000 // ms after the customer's last word; later WeChat shows nothing

/** Lets the customer see that somebody writes, while somebody does. That it cannot be shown hinders nobody. */
function useTyping(id: string, text: string, open: boolean, heardAt: number) {
  const said = useRef(0)
  const writing = open && text.trim() !== ''
  useEffect(() => {
    const now = Date.now()
    if (!writing || now - said.current < typingEvery || now - heardAt > typingWithin) return
    said.current = now
    admin.typing(id, true).catch(() => {})
  }, [id, text, writing, heardAt])
  useEffect(() => {
    if (!writing) return
    return () => {
      if (!said.current) return
      said.current = 0
      admin.typing(id, false).catch(() => {})
    }
  }, [id, writing])
}

const mostPicture = 1 << 20 // bytes, as the hub takes it

/** Chooses a picture, shows it, and sends it by a second click. */
function PictureButton({ id, disabled, onSent }: { id: string; disabled: boolean; onSent: () => void }) {
  const { t } = useWords()
  const [chosen, setChosen] = useState('')
  const [wrong, setWrong] = useState('')
  const input = useRef<HTMLInputElement>(null)
  const doing = useDoing()
  const choose = (file?: File) => {
    if (!file) return
    doing.clear()
    setChosen('')
    const fits = /^image\/(png|jpeg|gif)$/.test(file.type)
    setWrong(!fits ? t('inbox.pictureKind') : file.size > mostPicture ? t('inbox.pictureBig') : '')
    if (!fits || file.size > mostPicture) return
    const reader = new FileReader()
    reader.onload = () => setChosen(String(reader.result))
    reader.readAsDataURL(file)
  }
  const close = () => {
    setChosen('')
    setWrong('')
    doing.clear()
  }
  const send = async () => {
    if (!(await doing.run(() => admin.replyPicture(id, chosen.slice(chosen.indexOf(',') + 1))))) return
    close()
    onSent()
  }
  return (
    <>
      <input
        ref={input} type="file" accept="image/png,image/jpeg,image/gif" hidden data-testid="picture-file"
        onChange={(e) => {
          choose(e.target.files?.[0])
          e.target.value = ''
        }}
      />
      <Button variant="outline" shape="square" icon={<ImageIcon />} disabled={disabled} aria-label={t('inbox.pictureSend')} data-testid="picture-choose" onClick={() => input.current!.click()} />
      {(chosen || wrong) && (
        <Modal title={t('inbox.pictureSend')} testid="picture-dialog" onClose={close}>
          {wrong ? <p className="bad" role="alert">{wrong}</p> : <img className="chosen" src={chosen} alt={t('inbox.pictureChosen')} />}
          <Failure of={doing.failure} />
          <footer>
            <Button variant="outline" onClick={close}>{t('cancel')}</Button>
            {!wrong && <Button data-testid="picture-send" loading={doing.busy} onClick={() => void send()}>{t('inbox.send')}</Button>}
          </footer>
        </Modal>
      )}
    </>
  )
}

function ReplyInput({ value, onChange, onSend, disabled }: { value: string; onChange: (v: string) => void; onSend: () => void; disabled: boolean }) {
  const { t } = useWords()
  const box = useRef<HTMLDivElement>(null)
  useEffect(() => {
    const area = box.current!.querySelector('textarea')!
    area.setAttribute('data-testid', 'reply-input')
    area.setAttribute('maxlength', '600')
    area.setAttribute('aria-label', t('inbox.reply'))
  })
  return (
    <div ref={box} className="reply">
      <Textarea
        placeholder={disabled ? t('inbox.closed') : t('inbox.reply')} disabled={disabled}
        value={value} onChange={(v) => onChange(String(v))}
        onKeydown={(_, { e }) => {
          if (e.key !== 'Enter' || e.shiftKey || e.nativeEvent.isComposing) return
          e.preventDefault()
          onSend()
        }}
      />
    </div>
  )
}

/** A picture that this hub keeps, at its own address. */
const ownPicture = (url?: string) => /(?:^|\/)pictures\/([^/?#]+)$/.exec(url ?? '')?.[1]

const webAddress = (url?: string) => (url && /^https?:\/\//i.test(url) ? url : undefined)

function Line({ of, before }: { of: TalkItem; before?: TalkItem }) {
  const { t, lang } = useWords()
  const own = of.from === 'staff' ? ownPicture(of.picUrl) : undefined
  const picture = own ? `/pictures/${own}` : webAddress(of.picUrl)
  const staff = of.from !== 'user'
  const link = of.type === 'link' ? webAddress(of.content) : undefined
  return (
    <>
      {(!before || of.at - before.at > 5 * 60_000) && <li className="pause"><time title={fullTime(of.at, lang)}>{moment(of.at)}</time></li>}
      {of.from === 'rule' && <li className="byrule">{t('inbox.rule')}</li>}
      <li className={staff ? 'said staff' : 'said'} data-testid="talk-item" data-from={of.from}>
        <p>
          {of.title && <b className="whole">{of.title}</b>}
          {link ? <a href={link} target="_blank" rel="noreferrer">{of.content}</a> : of.content}
          {of.pagePath && <code className="under">{of.pagePath}</code>}
          {picture && <a href={picture} target="_blank" rel="noreferrer">{own ? <img src={picture} alt={t('inbox.picture')} /> : t('inbox.picture')}</a>}
          {!of.title && !of.content && !picture && <i>{t('inbox.kind', { kind: of.type })}</i>}
        </p>
      </li>
    </>
  )
}
