import { useEffect, useState } from 'react'
import { SearchIcon, ViewListIcon } from 'tdesign-icons-react'
import { Input, Select, Tag } from 'tdesign-react'
import { admin, orderStates, type Order, type OrderState, type Refund } from '../api'
import { useAsked, useDoing } from '../asking'
import { price } from '../fen'
import { fullTime, moment } from '../format'
import { useWords } from '../language'
import { go, href } from '../place'
import { Button } from '../parts/button'
import { Named } from '../parts/field'
import { Grid } from '../parts/grid'
import { Modal } from '../parts/modal'
import { Empty, Failure, Waiting } from '../parts/state'
import { RefundDialog } from './refund'
import { ShippingPart } from './shipping'

const page = 50

const themes: Record<OrderState, 'default' | 'primary' | 'success' | 'warning' | 'danger'> = {
  created: 'default', paying: 'warning', paid: 'success', closed: 'default', refunding: 'warning', refunded: 'danger',
}

/** What may still be given back, in fen; a refund under way waits for its result first. */
const refundable = (o: Order) => (o.state === 'paid' ? o.total - o.refunded : 0)

export function Orders({ outTradeNo, userId }: { outTradeNo: string; userId: string }) {
  const { t } = useWords()
  const [state, setState] = useState<OrderState | ''>('')
  const [user, setUser] = useState(userId)
  const [number, setNumber] = useState('')
  const [older, setOlder] = useState<Order[]>([])
  const [ended, setEnded] = useState(false)
  const [refunding, setRefunding] = useState<Order>()
  const more = useDoing()
  useEffect(() => setUser(userId), [userId])

  const filter = { state, userId: user.trim(), outTradeNo: number.trim(), limit: page }
  const about = JSON.stringify(filter)
  const settled = useSettled(about)
  const { data, failure, loading, again } = useAsked(settled, (signal) => admin.orders(JSON.parse(settled), signal), 5000)
  useEffect(() => {
    setOlder([])
    setEnded(false)
  }, [settled])
  const known = new Set(data?.map((o) => o.outTradeNo))
  const rows = data && [...data, ...older.filter((o) => !known.has(o.outTradeNo))]
  const next = async () => {
    const got = await more.run(() => admin.orders({ ...filter, before: rows!.at(-1)!.createdAt }))
    if (!got) return
    setEnded(got.length < page)
    setOlder((list) => [...list, ...got])
  }
  const filtered = Boolean(state || filter.userId || filter.outTradeNo)
  return (
    <>
      <header className="heading"><h1>{t('page.orders')}</h1></header>
      <div className="filters">
        <Named name={t('orders.number')}><Input prefixIcon={<SearchIcon />} clearable placeholder={t('orders.number')} value={number} onChange={setNumber} /></Named>
        <Named name={t('orders.user')}><Input clearable placeholder={t('orders.user')} value={user} onChange={setUser} /></Named>
        <Named name={t('orders.state')}><Select
          value={state} onChange={(v) => setState(v as OrderState | '')}
          options={[{ label: t('orders.anyState'), value: '' }, ...orderStates.map((s) => ({ label: t(`state.${s}`), value: s }))]}
        /></Named>
      </div>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {rows?.length === 0 && <Empty icon={<ViewListIcon size="40px" />} title={filtered ? t('orders.noneFound') : t('orders.none')}>{filtered ? '' : t('orders.noneLead')}</Empty>}
      {rows && rows.length > 0 && (
        <section className="panel">
          <Grid
            label={t('page.orders')} rows={rows} keyOf={(o) => o.outTradeNo} onOpen={(o) => go(href('orders', o.outTradeNo, { userId: user.trim() }))} testid={(o) => `order-${o.outTradeNo}`}
            columns={[
              { name: t('orders.description'), main: true, cell: (o) => <>{o.description}{o.quantity > 1 && <small> × {o.quantity}</small>}<code className="under">{o.outTradeNo}</code></> },
              { name: t('orders.total'), right: true, cell: (o) => <><b>{price(o.total)}</b>{o.refunded > 0 && <small className="under">{t('orders.refundedPart', { sum: price(o.refunded) })}</small>}</> },
              { name: t('orders.state'), cell: (o) => <StateTag of={o} /> },
              { name: t('orders.user'), cell: (o) => (o.userId ? <a href={href('users', o.userId)} className="cut">{o.userId}</a> : '–') },
              { name: t('orders.created'), cell: (o) => moment(o.createdAt) },
              {
                name: t('orders.actions'), right: true,
                cell: (o) => refundable(o) > 0 && <Button size="small" variant="outline" data-testid={`refund-${o.outTradeNo}`} onClick={() => setRefunding(o)}>{t('refund')}</Button>,
              },
            ]}
          />
          {data!.length === page && !ended && <div className="further"><Button variant="text" loading={more.busy} onClick={next}>{t('orders.more')}</Button></div>}
          <Failure of={more.failure} />
        </section>
      )}
      {outTradeNo && <Details outTradeNo={outTradeNo} known={rows?.find((o) => o.outTradeNo === outTradeNo)} onClose={() => go(href('orders', '', { userId: user.trim() }))} onRefund={setRefunding} />}
      {refunding && <RefundDialog order={refunding} left={refundable(refunding)} onClose={() => setRefunding(undefined)} onDone={again} />}
    </>
  )
}

/** The value once it has not changed for a moment: nobody asks at every key. */
function useSettled(value: string): string {
  const [settled, setSettled] = useState(value)
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), 250)
    return () => clearTimeout(timer)
  }, [value])
  return settled
}

export function StateTag({ of }: { of: Order }) {
  const { t } = useWords()
  return (
    <span data-testid={`state-${of.outTradeNo}`} data-state={of.state}>
      <Tag theme={themes[of.state]} variant="light">{t(`state.${of.state}`)}</Tag>
      {of.late && <Tag theme="warning" variant="outline" title={t('orders.lateLead')}>{t('orders.late')}</Tag>}
    </span>
  )
}

function Details({ outTradeNo, known, onClose, onRefund }: { outTradeNo: string; known?: Order; onClose: () => void; onRefund: (o: Order) => void }) {
  const { t, lang } = useWords()
  const asked = useAsked(outTradeNo, (signal) => admin.orders({ outTradeNo }, signal), 5000)
  const refunds = useAsked(outTradeNo, (signal) => admin.refunds(outTradeNo, signal), 5000)
  const o = asked.data?.find((order) => order.outTradeNo === outTradeNo) ?? known
  const time = (at?: number) => (at ? <time title={fullTime(at, lang)}>{moment(at)}</time> : '–')
  return (
    <Modal kind="drawer" title={t('orders.details')} testid="order-details" onClose={onClose}>
      <Failure of={asked.failure} again={asked.again} />
      {!o && asked.loading && <Waiting />}
      {!o && !asked.loading && !asked.failure && <Empty icon={<ViewListIcon size="40px" />} title={t('orders.noSuch')}><code>{outTradeNo}</code></Empty>}
      {o && (
        <>
          <p className="sum">{price(o.total)} <StateTag of={o} /></p>
          <p className="what">{o.description}{o.quantity > 1 && ` × ${o.quantity}`}</p>
          <dl className="facts">
            <dt>{t('orders.number')}</dt><dd><code>{o.outTradeNo}</code></dd>
            <dt>{t('orders.transaction')}</dt><dd><code>{o.transactionId || '–'}</code></dd>
            <dt>{t('orders.user')}</dt><dd>{o.userId ? <a href={href('users', o.userId)}>{o.userId}</a> : '–'}</dd>
            <dt>{t('orders.product')}</dt><dd>{o.productId || '–'}</dd>
            <dt>{t('orders.room')}</dt><dd>{o.room ? <a href={href('rooms', o.room)}>{o.room}</a> : '–'}</dd>
            <dt>{t('orders.created')}</dt><dd>{time(o.createdAt)}</dd>
            <dt>{t('orders.paidAt')}</dt><dd>{time(o.paidAt)}</dd>
            <dt>{t('orders.refunded')}</dt><dd>{price(o.refunded)}</dd>
          </dl>
          {o.paidAt ? <ShippingPart key={o.outTradeNo} outTradeNo={o.outTradeNo} /> : null}
          <h3>{t('refunds')}</h3>
          <Failure of={refunds.failure} again={refunds.again} />
          {refunds.data?.length === 0 && <p className="none">{t('refunds.none')}</p>}
          <ul className="refunds">{refunds.data?.map((r) => <RefundRow key={r.outRefundNo} of={r} />)}</ul>
          {refundable(o) > 0 && <footer><Button onClick={() => onRefund(o)}>{t('refund')}</Button></footer>}
        </>
      )}
    </Modal>
  )
}

const refundThemes = { processing: 'warning', success: 'success', closed: 'default', abnormal: 'danger' } as const

function RefundRow({ of }: { of: Refund }) {
  const { t } = useWords()
  return (
    <li>
      <p><b>{price(of.amount)}</b> <Tag size="small" theme={refundThemes[of.state]} variant="light">{t(`refundState.${of.state}`)}</Tag> <time>{moment(of.doneAt ?? of.createdAt)}</time></p>
      {of.reason && <p>{of.reason}</p>}
      <code className="soft">{of.outRefundNo}</code>
    </li>
  )
}
