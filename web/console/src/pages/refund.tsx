import { useState } from 'react'
import { CheckCircleFilledIcon } from 'tdesign-icons-react'
import { Input, Radio } from 'tdesign-react'
import { admin, type Order, type Refund } from '../api'
import { useDoing } from '../asking'
import { parseYuan, price, yuan } from '../fen'
import { useWords } from '../language'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Modal } from '../parts/modal'
import { Failure } from '../parts/state'

const newNumber = () => `C${Date.now().toString(36)}${crypto.getRandomValues(new Uint32Array(2)).reduce((s, n) => s + n.toString(36), '')}`.toUpperCase()

/** Asks how much, says it once more in words, and sends it under one number, so that a second click is no second refund. */
export function RefundDialog({ order, left, onClose, onDone }: { order: Order; left: number; onClose: () => void; onDone: () => void }) {
  const { t } = useWords()
  const [part, setPart] = useState(false)
  const [text, setText] = useState(yuan(left))
  const [reason, setReason] = useState('')
  const [result, setResult] = useState<Refund>()
  const [numbers] = useState(() => new Map<string, string>())
  const doing = useDoing()
  const amount = part ? parseYuan(text) : left
  const wrong = !part ? '' : amount === undefined ? t('refund.badAmount') : amount === 0 ? t('refund.nothing') : amount > left ? t('refund.tooMuch', { sum: price(left) }) : ''
  // By its button alone: money does not leave by an Enter in a field.
  const send = async () => {
    if (amount === undefined || wrong || doing.busy) return
    const body = { amount, ...(reason.trim() && { reason: reason.trim() }) }
    const same = JSON.stringify(body)
    if (!numbers.has(same)) numbers.set(same, newNumber())
    const refund = await doing.run(() => admin.refund(order.outTradeNo, { ...body, outRefundNo: numbers.get(same) }))
    onDone()
    if (refund) setResult(refund)
  }
  return (
    <Modal title={t('refund.title')} testid="refund-dialog" onClose={onClose}>
      {result ? (
        <>
          <p className="done" data-testid="refund-done"><CheckCircleFilledIcon size="44px" aria-hidden="true" /><b>{price(result.amount)}</b>{t(`refund.${result.state}`)}</p>
          <footer><Button data-testid="refund-close" autoFocus onClick={onClose}>{t('close')}</Button></footer>
        </>
      ) : (
        <form onSubmit={(e) => e.preventDefault()}>
          <p className="what">{order.description}<code className="under">{order.outTradeNo}</code></p>
          <Field label={t('refund.howMuch')} group>
            <Radio.Group value={part} onChange={(v) => setPart(Boolean(v))}>
              <Radio value={false}>{order.refunded > 0 ? t('refund.rest', { sum: price(left) }) : t('refund.all', { sum: price(left) })}</Radio>
              <Radio value={true}>{t('refund.part')}</Radio>
            </Radio.Group>
          </Field>
          {part && (
            <Field label={t('refund.amount')} wrong={wrong} testid="refund-amount" keyboard="decimal" hint={t('refund.fen', { n: amount ?? 0 })}>
              <Input label="¥" value={text} onChange={setText} autofocus />
            </Field>
          )}
          <Field label={t('refund.reason')} testid="refund-reason" hint={t('refund.reasonHint')}>
            <Input value={reason} onChange={setReason} maxlength={80} placeholder={t('refund.reasonExample')} />
          </Field>
          <Failure of={doing.failure} />
          <footer>
            <Button variant="outline" onClick={onClose}>{t('cancel')}</Button>
            <Button theme="danger" type="button" onClick={() => void send()} data-testid="refund-confirm" loading={doing.busy} disabled={amount === undefined || wrong !== ''}>
              {t('refund.confirm', { sum: wrong || amount === undefined ? '' : price(amount) })}
            </Button>
          </footer>
        </form>
      )}
    </Modal>
  )
}
