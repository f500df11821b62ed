import { useState, type FormEvent } from 'react'
import { CheckCircleFilledIcon, UserIcon } from 'tdesign-icons-react'
import { Input } from 'tdesign-react'
import { admin } from '../api'
import { useDoing } from '../asking'
import { clock } from '../format'
import { useWords } from '../language'
import { go, href } from '../place'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Modal } from '../parts/modal'
import { Empty, Failure } from '../parts/state'

const userID = /^[A-Za-z0-9_.-]{1,64}$/

type Deed = 'disconnect' | 'block' | 'unblock'

export function Users({ user }: { user: string }) {
  const { t } = useWords()
  const [typed, setTyped] = useState(user)
  const id = typed.trim()
  const fits = userID.test(id)
  return (
    <>
      <header className="heading"><h1>{t('page.users')}</h1></header>
      <section className="panel pad narrow">
        <form onSubmit={(e: FormEvent) => (e.preventDefault(), fits && go(href('users', id)))}>
          <Field label={t('users.id')} hint={t('users.idHint')} wrong={id && !fits ? t('users.idBad') : ''} testid="user-id">
            <Input clearable placeholder="u-…" value={typed} onChange={setTyped} suffix={<Button type="submit" variant="text" theme="primary" disabled={!fits}>{t('users.open')}</Button>} />
          </Field>
        </form>
      </section>
      {userID.test(user) ? <Person key={user} id={user} /> : <Empty icon={<UserIcon size="40px" />} title={t('users.none')}>{t('users.noneLead')}</Empty>}
    </>
  )
}

function Person({ id }: { id: string }) {
  const { t } = useWords()
  const doing = useDoing()
  const [asked, setAsked] = useState<Deed>()
  const [done, setDone] = useState<{ at: number; text: string }[]>([])
  const act = async (deed: Deed) => {
    setAsked(undefined)
    const text = await doing.run(async () => {
      switch (deed) {
        case 'disconnect': return t('users.closed', { n: (await admin.disconnect(id)).closed })
        case 'block': return await admin.block(id), t('users.blocked')
        case 'unblock': return await admin.unblock(id), t('users.unblocked')
      }
    })
    if (text) setDone((list) => [{ at: Date.now(), text }, ...list].slice(0, 20))
  }
  return (
    <section className="panel pad narrow person">
      <h2><UserIcon aria-hidden="true" /> <code>{id}</code></h2>
      <p className="links">
        <a href={href('orders', '', { userId: id })}>{t('users.orders')}</a>
        <a href={href('rooms', `user:${id}`)}>{t('users.mail')}</a>
        <a href={href('broadcast', '', { user: id })}>{t('users.write')}</a>
      </p>
      <div className="buttons">
        <Button variant="outline" data-testid="user-disconnect" disabled={doing.busy} onClick={() => act('disconnect')}>{t('users.disconnect')}</Button>
        <Button variant="outline" theme="danger" data-testid="user-block" disabled={doing.busy} onClick={() => setAsked('block')}>{t('users.block')}</Button>
        <Button variant="outline" data-testid="user-unblock" disabled={doing.busy} onClick={() => act('unblock')}>{t('users.unblock')}</Button>
      </div>
      <p className="fine">{t('users.note')}</p>
      <Failure of={doing.failure} />
      <ul className="deeds" aria-live="polite">
        {done.map((d) => <li key={`${d.at}${d.text}`} data-testid="user-done"><CheckCircleFilledIcon aria-hidden="true" /> {d.text} <time>{clock(d.at)}</time></li>)}
      </ul>
      {asked && (
        <Modal title={t('users.blockTitle')} testid="block-dialog" onClose={() => setAsked(undefined)}>
          <p>{t('users.blockLead', { id })}</p>
          <footer>
            <Button variant="outline" onClick={() => setAsked(undefined)}>{t('cancel')}</Button>
            <Button theme="danger" data-testid="block-confirm" onClick={() => act('block')}>{t('users.block')}</Button>
          </footer>
        </Modal>
      )}
    </section>
  )
}
