import { useState, type FormEvent } from 'react'
import { AddIcon, MailIcon } from 'tdesign-icons-react'
import { Input, InputNumber, Tag, Textarea } from 'tdesign-react'
import { admin, type DryRun, type FallbackRule } from '../api'
import { useAsked, useDoing } from '../asking'
import { fullTime, moment } from '../format'
import { useWords } from '../language'
import { words, type Word } from '../words'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Modal } from '../parts/modal'
import { Empty, Failure, Waiting } from '../parts/state'

/** How mail is told to somebody who is away: rules by action, and what they would do for a user. */
export function Fallbacks() {
  const { t } = useWords()
  const { data, failure, loading, again } = useAsked('fallbacks', admin.fallbacks)
  const [open, setOpen] = useState<number>()
  const doing = useDoing()
  const save = async (rules: FallbackRule[]) => {
    const saved = await doing.run(() => admin.saveFallbacks(rules, data!.version))
    if (saved) setOpen(undefined)
    again()
  }
  const reset = async () => {
    await doing.run(() => admin.resetFallbacks())
    again()
  }
  const rules = data?.rules ?? []
  const edited = open === undefined ? undefined : (rules[open] ?? { action: '', after: 60 })
  return (
    <>
      <header className="heading">
        <h1>{t('page.fallbacks')}</h1>
        <p className="soft">{t('fallbacks.lead')}</p>
      </header>
      <Failure of={failure} again={again} />
      {open === undefined && <Failure of={doing.failure} />}
      {loading && !data && <Waiting />}
      {data && rules.length === 0 && <Empty icon={<MailIcon size="40px" />} title={t('fallbacks.none')}>{t('fallbacks.noneLead')}</Empty>}
      <ul className="alarms">
        {rules.map((r, i) => (
          <li key={i} className="panel pad rule" data-testid="fallback-rule">
            <div>
              <h2><code>{r.action}</code> <small>{t('fallbacks.after', { n: r.after })}</small> {r.quiet && <Tag variant="light">{t('fallbacks.quietIs', { hours: r.quiet })}</Tag>}</h2>
              {r.custom && <p><b>{t('fallbacks.custom')}</b> {r.custom.text ?? r.custom.link?.title ?? r.custom.card?.title}</p>}
              {r.subscribe && <p><b>{t('fallbacks.subscribe')}</b> <code>{r.subscribe.template}</code> {Object.entries(r.subscribe.data).map(([k, v]) => `${k}=${v}`).join(' · ')}</p>}
            </div>
            <span className="buttons">
              <Button size="small" variant="outline" data-testid="fallback-edit" onClick={() => setOpen(i)}>{t('fallbacks.edit')}</Button>
              <Button size="small" variant="outline" theme="danger" disabled={doing.busy} onClick={() => void save(rules.filter((_, k) => k !== i))}>{t('fallbacks.remove')}</Button>
            </span>
          </li>
        ))}
      </ul>
      {data && (
        <p className="buttons">
          <Button data-testid="fallback-add" icon={<AddIcon />} onClick={() => setOpen(rules.length)}>{t('fallbacks.add')}</Button>
          {data.saved && <Button variant="outline" disabled={doing.busy} onClick={() => void reset()}>{t('fallbacks.reset')}</Button>}
          {data.saved && data.changedAt && <small className="soft">{t('fallbacks.changed', { who: data.changedBy ?? '', at: moment(data.changedAt) })}</small>}
        </p>
      )}
      <DryRunForm />
      {edited && (
        <Modal title={t('fallbacks.rule')} kind="drawer" testid="fallback" onClose={() => setOpen(undefined)}>
          <RuleForm rule={edited} busy={doing.busy} onSave={(r) => void save(rules[open!] ? rules.map((old, i) => (i === open ? r : old)) : [...rules, r])} />
          <Failure of={doing.failure} />
        </Modal>
      )}
    </>
  )
}

/** "thing1={description}", a line for each field of the template. */
const dataLines = (data: Record<string, string> = {}) => Object.entries(data).map(([k, v]) => `${k}=${v}`).join('\n')
const readLines = (text: string) =>
  Object.fromEntries(text.split('\n').map((l) => l.trim()).filter(Boolean).map((l) => [l.split('=', 1)[0]!.trim(), l.slice(l.indexOf('=') + 1).trim()]))

function RuleForm({ rule, busy, onSave }: { rule: FallbackRule; busy: boolean; onSave: (r: FallbackRule) => void }) {
  const { t } = useWords()
  const [action, setAction] = useState(rule.action)
  const [after, setAfter] = useState(rule.after)
  const [quiet, setQuiet] = useState(rule.quiet ?? '')
  const [text, setText] = useState(rule.custom?.text ?? '')
  const [template, setTemplate] = useState(rule.subscribe?.template ?? '')
  const [page, setPage] = useState(rule.subscribe?.page ?? '')
  const [data, setData] = useState(dataLines(rule.subscribe?.data))
  const other = Boolean(rule.custom?.link ?? rule.custom?.card)
  const submit = (e: FormEvent) => {
    e.preventDefault()
    onSave({
      ...rule, action: action.trim(), after, quiet: quiet.trim() || undefined,
      custom: other ? rule.custom : text.trim() ? { text: text.trim() } : undefined,
      subscribe: template.trim() ? { ...rule.subscribe, template: template.trim(), page: page.trim() || undefined, data: readLines(data) } : undefined,
    })
  }
  return (
    <form className="stack" onSubmit={submit}>
      <Field label={t('fallbacks.action')} hint={t('fallbacks.actionHint')} testid="rule-action"><Input value={action} onChange={setAction} placeholder="order.paid" /></Field>
      <Field label={t('fallbacks.afterName')} hint={t('fallbacks.afterHint')} testid="rule-after"><InputNumber theme="normal" min={1} max={604800} value={after} onChange={(v) => setAfter(Number(v) || 1)} /></Field>
      <Field label={t('fallbacks.quiet')} hint={t('fallbacks.quietHint')} testid="rule-quiet"><Input value={quiet} onChange={setQuiet} placeholder="22:00-08:00" /></Field>
      {other
        ? <p className="soft">{t('fallbacks.otherCustom')}</p>
        : <Field label={t('fallbacks.custom')} hint={t('fallbacks.places')} testid="rule-text"><Textarea rows={3} value={text} onChange={(v) => setText(String(v))} /></Field>}
      <Field label={t('fallbacks.template')} testid="rule-template"><Input value={template} onChange={setTemplate} /></Field>
      <Field label={t('fallbacks.page')} testid="rule-page"><Input value={page} onChange={setPage} placeholder="pages/order/order?no={outTradeNo}" /></Field>
      <Field label={t('fallbacks.data')} hint={t('fallbacks.dataHint')} testid="rule-data"><Textarea rows={3} value={data} onChange={(v) => setData(String(v))} placeholder={'thing1={description}\namount2={total|yuan}'} /></Field>
      <footer><Button type="submit" data-testid="rule-save" loading={busy} disabled={!action.trim()}>{t('fallbacks.save')}</Button></footer>
    </form>
  )
}

function DryRunForm() {
  const { t } = useWords()
  const [user, setUser] = useState('')
  const [action, setAction] = useState('order.paid')
  const [result, setResult] = useState<DryRun>()
  const doing = useDoing()
  const ask = async (e: FormEvent) => {
    e.preventDefault()
    setResult(await doing.run(() => admin.dryRun(user.trim(), action.trim())))
  }
  return (
    <section className="panel pad narrow">
      <h2>{t('dryrun')}</h2>
      <p className="soft">{t('dryrun.lead')}</p>
      <form className="stack" onSubmit={(e) => void ask(e)}>
        <Field label={t('users.id')} testid="dryrun-user"><Input value={user} onChange={setUser} placeholder="u-…" /></Field>
        <Field label={t('fallbacks.action')} testid="dryrun-action"><Input value={action} onChange={setAction} /></Field>
        <footer><Button type="submit" data-testid="dryrun-ask" loading={doing.busy} disabled={!user.trim() || !action.trim()}>{t('dryrun.ask')}</Button></footer>
      </form>
      <Failure of={doing.failure} />
      {result && <Answer of={result} />}
    </section>
  )
}

function Answer({ of }: { of: DryRun }) {
  const { t, lang } = useWords()
  const reason = (r: string) => (`reason.${r}` in words ? t(`reason.${r}` as Word) : r)
  return (
    <div className="answer" data-testid="dryrun-result" data-result={of.result} aria-live="polite">
      <p><b>{t(`dryrun.${of.result}`)}</b> {of.at ? <time title={fullTime(of.at, lang)}>{moment(of.at)}</time> : null} {of.quiet && <Tag variant="light">{t('dryrun.quiet')}</Tag>}</p>
      {of.reasons && of.reasons.length > 0 && <p>{t('dryrun.because')} {of.reasons.map(reason).join(lang === 'zh' ? '；' : '; ')}</p>}
      <p className="fine">{t('dryrun.left', { replies: of.replies, grants: of.grants })}</p>
      {of.custom !== undefined && <pre>{JSON.stringify(of.custom, null, 2)}</pre>}
      {of.subscribe !== undefined && <pre>{JSON.stringify(of.subscribe, null, 2)}</pre>}
    </div>
  )
}
