import { useState, type FormEvent, type ReactNode } from 'react'
import { CheckCircleIcon, MailIcon } from 'tdesign-icons-react'
import { Input, Tag } from 'tdesign-react'
import { admin, type Receipt, type ReceiptStep } from '../api'
import { useAsked, useDoing } from '../asking'
import { clock, fullTime, moment } from '../format'
import { useWords } from '../language'
import type { Word } from '../words'
import { words } from '../words'
import { go, href } from '../place'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Grid } from '../parts/grid'
import { Empty, Failure, Waiting } from '../parts/state'

/** What became of a message, user by user, and what the relay gave up. */
export function Messages({ id }: { id: string }) {
  const { t } = useWords()
  const [typed, setTyped] = useState(id)
  return (
    <>
      <header className="heading"><h1>{t('page.messages')}</h1></header>
      <section className="panel pad narrow">
        <form onSubmit={(e: FormEvent) => (e.preventDefault(), typed.trim() && go(href('messages', typed.trim())))}>
          <Field label={t('messages.id')} hint={t('messages.idHint')} testid="message-id">
            <Input clearable value={typed} onChange={setTyped} suffix={<Button type="submit" variant="text" theme="primary" disabled={!typed.trim()}>{t('messages.open')}</Button>} />
          </Field>
        </form>
      </section>
      {id && <Fate key={id} id={id} />}
      <Doubts />
      <Dead />
    </>
  )
}

const hubWords = { receipt: (w: string) => `receipt.${w}`, step: (w: string) => `step.${w}`, outcome: (w: string) => `outcome.${w}`, reason: (w: string) => `reason.${w}` }
type Kind = keyof typeof hubWords
type HubWord = (kind: Kind, word: string) => string

/** A word that the hub says: in the reader's language where we know it. */
function useHubWord(): HubWord {
  const { t } = useWords()
  return (kind, word) => {
    const key = hubWords[kind](word)
    return key in words ? t(key as Word) : word
  }
}

const theme = (state: string) => (state === 'acknowledged' || state === 'fallen_back' ? 'success' : state === 'expired' || state === 'unknown' ? 'danger' : 'warning')

function Fate({ id }: { id: string }) {
  const { t } = useWords()
  const word = useHubWord()
  const { data, failure, loading, again } = useAsked(id, (signal) => admin.message(id, signal), 5000)
  const counts = data?.counts
  return (
    <section className="panel pad">
      <h2 className="whole"><MailIcon aria-hidden="true" /> <code>{id}</code></h2>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {data?.rooms && data.rooms.length > 0 && <p>{data.rooms.map((r) => <a key={r.room} href={href('rooms', r.room)}>{r.room} </a>)}</p>}
      {counts && counts.stored > 0 && (
        <ul className="counts" data-testid="message-counts">
          {(['stored', 'relayed', 'written', 'acknowledged', 'fallenBack', 'waiting', 'held', 'unknown', 'expired'] as const).map((k) => (
            <li key={k}><b>{counts[k]}</b> {t(`count.${k}`)}</li>
          ))}
        </ul>
      )}
      {data?.receipts.map((r) => (
        <ReceiptView key={r.user} of={r} word={word}>
          {r.state === 'unknown' && r.reason === 'lost' && <Decision id={id} user={r.user} onDone={again} />}
        </ReceiptView>
      ))}
      {data && data.receipts.length === 0 && <p className="soft">{t('messages.noReceipts')}</p>}
    </section>
  )
}

function ReceiptView({ of, word, children }: { of: Receipt; word: HubWord; children?: ReactNode }) {
  const { lang } = useWords()
  return (
    <article className="receipt" data-testid="receipt">
      <h3>
        <a href={href('users', of.user)}>{of.user}</a> <code>{of.action}</code>{' '}
        <Tag variant="light" theme={theme(of.state)}>{word('receipt', of.state)}</Tag>{' '}
        {of.reason && <span className="soft">{word('reason', of.reason)}{of.code ? ` (${of.code})` : ''}</span>}
      </h3>
      <ol className="steps">
        {of.timeline.map((s, i) => (
          <li key={i} data-testid={`step-${s.step}`}><time title={fullTime(s.at, lang)}>{moment(s.at)}{clock(s.at).slice(5)}</time> <b>{word('step', s.step)}</b> <span>{explain(s, word)}</span></li>
        ))}
      </ol>
      {children}
    </article>
  )
}

const explain = (s: ReceiptStep, word: HubWord) =>
  [s.outcome && word('outcome', s.outcome), s.reason && word('reason', s.reason), s.code && String(s.code), s.report, s.node].filter(Boolean).join(' · ')

/** Perhaps WeChat has told it, perhaps not: somebody who knows decides. */
function Decision({ id, user, gone, onDone }: { id: string; user: string; gone?: boolean; onDone: () => void }) {
  const { t } = useWords()
  const doing = useDoing()
  const decide = async (what: 'again' | 'leave') => {
    await doing.run(() => admin.decide(id, user, what))
    onDone()
  }
  return (
    <>
      <div className="buttons tight">
        {!gone && <Button size="small" variant="outline" data-testid="decide-again" disabled={doing.busy} onClick={() => void decide('again')}>{t('doubts.again')}</Button>}
        <Button size="small" variant="text" data-testid="decide-leave" disabled={doing.busy} onClick={() => void decide('leave')}>{t('doubts.leave')}</Button>
      </div>
      <Failure of={doing.failure} />
    </>
  )
}

/** Letters with an unknown end, of every message. Where there are none, nothing stands here. */
function Doubts() {
  const { t, lang } = useWords()
  const word = useHubWord()
  const { data, failure, again } = useAsked('doubts', admin.doubts, 10_000)
  if (!failure && !data?.length) return null
  return (
    <section className="panel" data-testid="doubts">
      <h2 className="title">{t('doubts')} {data && <small>{data.length}</small>}</h2>
      <p className="soft padded">{t('doubts.lead')}</p>
      <Failure of={failure} again={again} />
      {data && data.length > 0 && (
        <Grid
          label={t('doubts')} rows={data} keyOf={(d) => `${d.user} ${d.id}`} testid={(d) => `doubt-${d.id}`}
          columns={[
            { name: t('dead.what'), main: true, cell: (d) => <><b>{d.action}</b> <a href={href('messages', d.id)}><code className="cut" title={d.id}>{d.id}</code></a></> },
            { name: t('dead.to'), cell: (d) => <a href={href('users', d.user)} className="cut">{d.user}</a> },
            { name: t('dead.kind'), cell: (d) => word('step', d.channel) },
            { name: t('doubts.since'), cell: (d) => <span title={fullTime(d.at, lang)}>{moment(d.at)}</span> },
            { name: t('orders.actions'), cell: (d) => <Decision id={d.id} user={d.user} gone={d.gone} onDone={again} /> },
          ]}
        />
      )}
    </section>
  )
}

function Dead() {
  const { t, lang } = useWords()
  const { data, failure, loading, again } = useAsked('dead', admin.dead, 20_000)
  const doing = useDoing()
  const retry = async (seq: number) => {
    await doing.run(() => admin.retryDead(seq))
    again()
  }
  return (
    <section className="panel">
      <h2 className="title">{t('dead')} {data && <small>{data.length}</small>}</h2>
      <Failure of={failure ?? doing.failure} again={again} />
      {loading && !data && <Waiting />}
      {data?.length === 0 && <Empty icon={<CheckCircleIcon size="40px" />} title={t('dead.none')} />}
      {data && data.length > 0 && (
        <Grid
          label={t('dead')} rows={data} keyOf={(d) => String(d.seq)} testid={(d) => `dead-${d.seq}`}
          columns={[
            { name: t('dead.what'), main: true, cell: (d) => <><b>{d.action || d.kind}</b> <code className="cut" title={d.id}>{d.id}</code></> },
            { name: t('dead.kind'), cell: (d) => d.kind },
            { name: t('dead.to'), cell: (d) => d.to || '–' },
            { name: t('dead.reason'), cell: (d) => <span className="bad">{d.reason}</span> },
            { name: t('dead.tries'), right: true, cell: (d) => d.attempts },
            { name: t('dead.at'), cell: (d) => <span title={fullTime(d.diedAt, lang)}>{moment(d.diedAt)}</span> },
            { name: t('orders.actions'), cell: (d) => <Button size="small" variant="outline" data-testid="dead-retry" disabled={doing.busy} onClick={() => void retry(d.seq)}>{t('dead.retry')}</Button> },
          ]}
        />
      )}
    </section>
  )
}
