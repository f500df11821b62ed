import { useState } from 'react'
import { Input, Radio, Tag } from 'tdesign-react'
import { admin, type Logistics, type Parcel, type Shipping } from '../api'
import { useAsked, useDoing } from '../asking'
import { fullTime, moment } from '../format'
import { useWords } from '../language'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Failure, Waiting } from '../parts/state'

const ways = ['express', 'city', 'virtual', 'pickup'] as const
const themes = { waiting: 'warning', told: 'primary', failed: 'danger', received: 'success', settled: 'success', needless: 'default' } as const

/** How a paid order is delivered, what WeChat said to it, and a form to say it. */
export function ShippingPart({ outTradeNo }: { outTradeNo: string }) {
  const { t } = useWords()
  const { data, failure, loading, again, change } = useAsked(`shipping ${outTradeNo}`, async (signal) => ({ kept: await admin.shipping(outTradeNo, signal) }), 4000)
  const [open, setOpen] = useState(false)
  const kept = data?.kept
  const done = (s: Shipping) => {
    change(() => ({ kept: s }))
    setOpen(false)
    again()
  }
  return (
    <section data-testid="shipping">
      <h3>{t('shipping')}</h3>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {kept && <Stand of={kept} />}
      {data && !kept && !open && <p className="none">{t('shipping.none')}</p>}
      {data && !open && <Button size="small" variant="outline" data-testid="ship" onClick={() => setOpen(true)}>{t(kept ? 'shipping.change' : 'shipping.say')}</Button>}
      {open && <ShippingForm outTradeNo={outTradeNo} kept={kept} onDone={done} onClose={() => setOpen(false)} />}
    </section>
  )
}

function Stand({ of }: { of: Shipping }) {
  const { t, lang } = useWords()
  const last = of.settledAt ?? of.receivedAt ?? of.toldAt ?? of.at
  return (
    <div className="shipped" data-testid="shipping-state" data-state={of.state}>
      <p>
        <Tag variant="light" theme={themes[of.state]}>{t(`shipState.${of.state}`)}</Tag> {t(`logistics.${of.logistics}`)}{' '}
        <time className="soft" title={fullTime(last, lang)}>{moment(last)}</time>
      </p>
      <ul>
        {of.parcels.map((p, i) => (
          <li key={i}>{p.company && <b>{p.company}</b>} {p.trackingNo && <code>{p.trackingNo}</code>} {p.item && <span className="soft">{p.item}</span>}</li>
        ))}
      </ul>
      {of.reason && <p className="bad" data-testid="shipping-reason">{t('shipping.reason')} {of.reason}</p>}
    </div>
  )
}

function ShippingForm({ outTradeNo, kept, onDone, onClose }: { outTradeNo: string; kept?: Shipping; onDone: (s: Shipping) => void; onClose: () => void }) {
  const { t } = useWords()
  const old: Parcel = kept?.parcels[0] ?? {}
  const [way, setWay] = useState<Logistics>(kept?.logistics ?? 'express')
  const [company, setCompany] = useState(old.company ?? '')
  const [number, setNumber] = useState(old.trackingNo ?? '')
  const [contact, setContact] = useState(old.contact ?? '')
  const [item, setItem] = useState('')
  const doing = useDoing()
  const express = way === 'express'
  const ready = !express || (company.trim() !== '' && number.trim() !== '')
  const send = async () => {
    if (!ready || doing.busy) return
    const parcel: Parcel = { ...(item.trim() && { item: item.trim() }) }
    if (express) Object.assign(parcel, { company: company.trim(), trackingNo: number.trim(), ...(contact.trim() && { contact: contact.trim() }) })
    const told = await doing.run(() => admin.ship(outTradeNo, { logistics: way, parcels: express || parcel.item ? [parcel] : [] }))
    if (told) onDone(told)
  }
  return (
    <form className="ship" onSubmit={(e) => e.preventDefault()} data-testid="shipping-form">
      {kept && <p className="soft">{t('shipping.once')}</p>}
      <Field label={t('shipping.way')} group>
        <Radio.Group value={way} onChange={(v) => setWay(v as Logistics)}>{ways.map((w) => <Radio key={w} value={w}>{t(`logistics.${w}`)}</Radio>)}</Radio.Group>
      </Field>
      {express && (
        <>
          <Field label={t('shipping.company')} hint={t('shipping.companyHint')} testid="ship-company"><Input value={company} onChange={setCompany} maxlength={128} placeholder="SF" /></Field>
          <Field label={t('shipping.number')} testid="ship-number"><Input value={number} onChange={setNumber} maxlength={128} /></Field>
          {company.trim().toUpperCase() === 'SF' && (
            <Field label={t('shipping.contact')} hint={t('shipping.contactHint')} testid="ship-contact"><Input value={contact} onChange={setContact} maxlength={32} placeholder="138****1234" /></Field>
          )}
        </>
      )}
      <Field label={t('shipping.item')} hint={t('shipping.itemHint')} testid="ship-item"><Input value={item} onChange={setItem} maxlength={120} /></Field>
      <Failure of={doing.failure} />
      <footer>
        <Button variant="outline" onClick={onClose}>{t('cancel')}</Button>
        <Button data-testid="ship-confirm" loading={doing.busy} disabled={!ready} onClick={() => void send()}>{t('shipping.tell')}</Button>
      </footer>
    </form>
  )
}
