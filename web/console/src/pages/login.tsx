import { useState, type FormEvent } from 'react'
import { Input } from 'tdesign-react'
import { admin } from '../api'
import { LanguageSwitch } from '../app'
import { useDoing } from '../asking'
import { useWords } from '../language'
import { Button } from '../parts/button'
import { Field } from '../parts/field'
import { Failure } from '../parts/state'
import { logIn } from '../session'

export function Login({ ended }: { ended: boolean }) {
  const { t } = useWords()
  const [username, setUsername] = useState('')
  const [password, setPassword] = useState('')
  const doing = useDoing()
  const submit = async (e: FormEvent) => {
    e.preventDefault()
    if (!username || !password || doing.busy) return
    const answer = await doing.run(() => admin.login(username, password))
    if (answer) logIn(answer.token)
    else setPassword('')
  }
  return (
    <div className="gate">
      <div className="corner"><LanguageSwitch /></div>
      <form className="panel" onSubmit={submit}>
        <img src="/console/mark.svg" alt="" width="52" height="52" />
        <h1>{t('title')}</h1>
        <p className="soft">{ended ? t('login.ended') : t('login.lead')}</p>
        <Field label={t('login.user')} testid="login-user">
          <Input size="large" name="username" autocomplete="username" autofocus placeholder="admin" value={username} onChange={setUsername} />
        </Field>
        <Field label={t('login.password')} testid="login-password">
          <Input size="large" name="password" type="password" autocomplete="current-password" placeholder="" value={password} onChange={setPassword} />
        </Field>
        <Failure of={doing.failure} />
        <Button size="large" block type="submit" data-testid="login-submit" loading={doing.busy} disabled={!username || !password}>{t('login.submit')}</Button>
        <p className="fine">{t('login.hint')}</p>
      </form>
    </div>
  )
}
