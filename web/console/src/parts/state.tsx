// What a page shows when there is nothing to show, not yet, or something went wrong.
import type { ReactNode } from 'react'
import { ErrorCircleIcon } from 'tdesign-icons-react'
import { Loading } from 'tdesign-react'
import type { Refusal } from '../api'
import { useWords } from '../language'
import { Button } from './button'

/** A failure: its sentence, its word with a link to what the documents say about it, and a way to try again. */
export function Failure({ of, again }: { of: Refusal | undefined; again?: () => void }) {
  const { t } = useWords()
  if (!of) return null
  const sentence = of.word === 'offline' ? t('offline') : of.message || t('failed')
  return (
    <div className="failure" role="alert" data-testid="failure">
      <ErrorCircleIcon aria-hidden="true" />
      <p>
        {sentence}
        {of.retryAfter > 0 && <> {t('retryAfter', { n: of.retryAfter })}</>}
        {of.word !== 'offline' && (
          <a href={`/docs/errors/${encodeURIComponent(of.word)}`} target="_blank" rel="noreferrer">
            <code>{of.word}</code>
          </a>
        )}
      </p>
      {again && <Button size="small" variant="outline" onClick={again}>{t('again')}</Button>}
    </div>
  )
}

export function Empty({ icon, title, children }: { icon: ReactNode; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <span aria-hidden="true">{icon}</span>
      <strong>{title}</strong>
      {children && <p>{children}</p>}
    </div>
  )
}

export function Waiting() {
  const { t } = useWords()
  return (
    <div className="waiting" role="status">
      <Loading size="small" /> {t('loading')}
    </div>
  )
}
