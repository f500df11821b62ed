import { useState } from 'react'
import { CheckCircleIcon, NotificationErrorIcon } from 'tdesign-icons-react'
import { Tag } from 'tdesign-react'
import { admin, type Alarm } from '../api'
import { useAsked, useDoing } from '../asking'
import { yuan } from '../fen'
import { fullTime, moment } from '../format'
import { useWords } from '../language'
import { href } from '../place'
import { Button } from '../parts/button'
import { Grid } from '../parts/grid'
import { Modal } from '../parts/modal'
import { Empty, Failure, Waiting } from '../parts/state'

/** What a person has to see to, and the days whose bills were compared with our books. */
export function Alarms() {
  const { t } = useWords()
  const [all, setAll] = useState(false)
  const { data, failure, loading, again } = useAsked(all ? 'all' : 'open', (signal) => admin.alarms(all ? 'all' : 'open', signal), 10_000)
  const doing = useDoing()
  const acknowledge = async (alarm: Alarm) => {
    await doing.run(() => admin.acknowledge(alarm.id))
    again()
  }
  return (
    <>
      <header className="heading">
        <h1>{t('page.alarms')}</h1>
        <Button variant="outline" data-testid="alarms-all" aria-pressed={all} onClick={() => setAll(!all)}>{t(all ? 'alarms.openOnly' : 'alarms.showAll')}</Button>
      </header>
      <Failure of={failure ?? doing.failure} again={again} />
      {loading && !data && <Waiting />}
      {data?.length === 0 && <Empty icon={<CheckCircleIcon size="40px" />} title={t('alarms.none')}>{t('alarms.noneLead')}</Empty>}
      {data && data.length > 0 && (
        <ul className="alarms">
          {data.map((a) => (
            <li key={a.id} className={a.ackedAt ? 'panel pad alarm done' : 'panel pad alarm'} data-testid={`alarm-${a.kind}`}>
              <NotificationErrorIcon size="22px" aria-hidden="true" />
              <div>
                <h2>{a.text} {a.times > 1 && <Tag size="small" variant="light">{t('alarms.times', { n: a.times })}</Tag>}</h2>
                <p>{a.step}</p>
                <p className="fine">
                  <code>{a.kind}</code> {a.subject && <Subject of={a} />} · <time title={fullTime(a.lastAt, 'en')}>{moment(a.lastAt)}</time>
                  {a.ackedAt ? <> · {t('alarms.acked', { who: a.ackedBy ?? '', at: moment(a.ackedAt) })}</> : null}
                </p>
              </div>
              {!a.ackedAt && <Button variant="outline" data-testid="alarm-ack" disabled={doing.busy} onClick={() => void acknowledge(a)}>{t('alarms.ack')}</Button>}
            </li>
          ))}
        </ul>
      )}
      <Bills />
    </>
  )
}

/** Alarms about an order lead to it. */
function Subject({ of }: { of: Alarm }) {
  const order = of.kind.startsWith('payment.') || of.kind.startsWith('shipping.')
  return order ? <a href={href('orders', of.subject)}>{of.subject}</a> : <span>{of.subject}</span>
}

const good = { even: true, no_bill: true } as Record<string, boolean>

function Bills() {
  const { t, lang } = useWords()
  const { data, failure, loading, again } = useAsked('bills', (signal) => admin.reconciliations(signal), 60_000)
  const [day, setDay] = useState('')
  return (
    <section className="panel">
      <h2 className="title">{t('bills')}</h2>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {data?.length === 0 && <p className="pad soft">{t('bills.none')}</p>}
      {data && data.length > 0 && (
        <Grid
          label={t('bills')} rows={data} keyOf={(b) => b.day} onOpen={(b) => setDay(b.day)} testid={(b) => `bill-${b.day}`}
          columns={[
            { name: t('bills.day'), main: true, cell: (b) => b.day },
            { name: t('bills.state'), cell: (b) => <Tag variant="light" theme={good[b.state] ? 'success' : 'danger'}>{t(`billState.${b.state}`)}</Tag> },
            { name: t('bills.paid'), right: true, cell: (b) => `${yuan(b.paid)} (${b.payments})` },
            { name: t('bills.refunded'), right: true, cell: (b) => `${yuan(b.refunded)} (${b.refunds})` },
            { name: t('bills.different'), right: true, cell: (b) => b.different },
            { name: t('bills.at'), cell: (b) => <span title={fullTime(b.at, lang)}>{moment(b.at)}</span> },
          ]}
        />
      )}
      {day && <Bill day={day} onClose={() => setDay('')} />}
    </section>
  )
}

function Bill({ day, onClose }: { day: string; onClose: () => void }) {
  const { t } = useWords()
  const { data, failure, loading, again } = useAsked(day, (signal) => admin.reconciliation(day, signal))
  const doing = useDoing()
  const compare = async () => {
    await doing.run(() => admin.reconcile(day))
    again()
  }
  return (
    <Modal title={t('bills.of', { day })} kind="drawer" testid="bill" onClose={onClose}>
      <Failure of={failure ?? doing.failure} again={again} />
      {loading && !data && <Waiting />}
      {data?.reason && <p>{data.reason}</p>}
      {data && !data.differences?.length && <p className="soft">{t('bills.even')}</p>}
      {data?.differences && data.differences.length > 0 && (
        <Grid
          label={t('bills.different')} rows={data.differences} keyOf={(d) => `${d.what} ${d.outTradeNo ?? ''} ${d.outRefundNo ?? ''} ${d.transactionId ?? ''}`}
          columns={[
            { name: t('bills.what'), main: true, cell: (d) => t(`difference.${d.what}`) },
            { name: t('orders.number'), cell: (d) => (d.outTradeNo ? <a href={href('orders', d.outTradeNo)}>{d.outTradeNo}</a> : '–') },
            { name: t('bills.theirs'), right: true, cell: (d) => yuan(d.theirs) },
            { name: t('bills.ours'), right: true, cell: (d) => yuan(d.ours) },
          ]}
        />
      )}
      <footer><Button variant="outline" data-testid="bill-again" loading={doing.busy} onClick={() => void compare()}>{t('bills.compare')}</Button></footer>
    </Modal>
  )
}
