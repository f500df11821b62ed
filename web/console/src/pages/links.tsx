import { useState, type FormEvent } from 'react'
import { CopyIcon } from 'tdesign-icons-react'
import { Input, Radio } from 'tdesign-react'
import { admin, type LinkWish } from '../api'
import { useDoing } from '../asking'
import { fullTime } from '../format'
import { useWords } from '../language'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Failure } from '../parts/state'

/** Ways into the mini-program from outside: links that WeChat makes, and codes that it draws. */
export function Links() {
  const { t } = useWords()
  return (
    <>
      <header className="heading"><h1>{t('page.links')}</h1></header>
      <div className="split even">
        <LinkForm />
        <CodeForm />
      </div>
    </>
  )
}

function LinkForm() {
  const { t, lang } = useWords()
  const [kind, setKind] = useState<LinkWish['kind']>('link')
  const [path, setPath] = useState('')
  const [query, setQuery] = useState('')
  const [days, setDays] = useState('30')
  const [made, setMade] = useState<{ url: string; expiresAt: number }>()
  const doing = useDoing()
  const n = Number(days)
  const wrong = Number.isInteger(n) && n >= 1 && n <= 30 ? '' : t('links.daysBad')
  const make = async (e: FormEvent) => {
    e.preventDefault()
    if (wrong || doing.busy) return
    setMade(undefined)
    const wish: LinkWish = { kind, days: n, ...(path.trim() && { path: path.trim() }), ...(query.trim() && { query: query.trim() }) }
    setMade(await doing.run(() => admin.link(wish)))
  }
  return (
    <section className="panel pad">
      <h2>{t('links.link')}</h2>
      <form onSubmit={make}>
        <Field label={t('links.kind')} hint={t(kind === 'link' ? 'links.urlHint' : 'links.schemeHint')} group>
          <Radio.Group value={kind} onChange={(v) => setKind(v as LinkWish['kind'])}>
            <Radio value="link">{t('links.url')}</Radio>
            <Radio value="scheme">{t('links.scheme')}</Radio>
          </Radio.Group>
        </Field>
        <Field label={t('links.path')} hint={t('links.pathHint')} testid="link-path"><Input value={path} onChange={setPath} maxlength={1024} placeholder="pages/index/index" /></Field>
        <Field label={t('links.query')} testid="link-query"><Input value={query} onChange={setQuery} maxlength={1024} placeholder="id=42" /></Field>
        <Field label={t('links.days')} wrong={wrong} testid="link-days" keyboard="decimal"><Input value={days} onChange={setDays} /></Field>
        <Failure of={doing.failure} />
        <Button type="submit" data-testid="link-make" loading={doing.busy} disabled={wrong !== ''}>{t('links.make')}</Button>
      </form>
      {made && (
        <div className="answer" data-testid="link-made">
          <p><code className="whole">{made.url}</code></p>
          <p className="soft">{t('links.until', { at: fullTime(made.expiresAt, lang) })}</p>
          <Copy text={made.url} />
        </div>
      )}
    </section>
  )
}

function Copy({ text }: { text: string }) {
  const { t } = useWords()
  const [done, setDone] = useState(false)
  // Only where the page came over https or from this machine may a page write to the clipboard.
  if (!navigator.clipboard) return null
  const copy = () => navigator.clipboard.writeText(text).then(() => setDone(true), () => {})
  return <Button size="small" variant="outline" icon={<CopyIcon />} onClick={() => void copy()}>{t(done ? 'links.copied' : 'links.copy')}</Button>
}

function CodeForm() {
  const { t } = useWords()
  const [path, setPath] = useState('')
  const [square, setSquare] = useState(false)
  const [img, setImg] = useState('')
  const doing = useDoing()
  const draw = async (e: FormEvent) => {
    e.preventDefault()
    if (!path.trim() || doing.busy) return
    setImg('')
    const code = await doing.run(() => admin.pathCode({ path: path.trim(), square }))
    if (code) setImg(code.img)
  }
  // The hub that made it serves it, also where the public address is another one.
  const own = img && '/qrcode/' + img.split('/').at(-1)
  return (
    <section className="panel pad">
      <h2>{t('links.code')}</h2>
      <form onSubmit={draw}>
        <Field label={t('links.codePath')} hint={t('links.codeHint')} testid="code-path"><Input value={path} onChange={setPath} maxlength={1024} placeholder="pages/index/index?id=42" /></Field>
        <Field label={t('links.shape')} group>
          <Radio.Group value={square} onChange={(v) => setSquare(Boolean(v))}>
            <Radio value={false}>{t('links.round')}</Radio>
            <Radio value={true}>{t('links.square')}</Radio>
          </Radio.Group>
        </Field>
        <Failure of={doing.failure} />
        <Button type="submit" data-testid="code-make" loading={doing.busy} disabled={!path.trim()}>{t('links.draw')}</Button>
      </form>
      {own && (
        <div className="answer code-made" data-testid="code-made">
          <img src={own} alt={t('links.codeOf', { path })} width="240" height="240" />
          <p><a href={own} download>{t('links.download')}</a></p>
        </div>
      )}
    </section>
  )
}
