import { useEffect, useRef, type ReactNode } from 'react'
import { CloseIcon } from 'tdesign-icons-react'
import { useWords } from '../language'

/** The browser's own dialog: it keeps the focus inside, Esc closes it, and the focus returns where it was. */
export function Modal({ title, kind = 'dialog', onClose, children, testid }: {
  title: ReactNode
  /** a drawer stands at the side, on a phone it covers the page */
  kind?: 'dialog' | 'drawer'
  onClose: () => void
  children: ReactNode
  testid?: string
}) {
  const { t } = useWords()
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const d = dialog.current!
    const back = document.activeElement
    if (!d.open) d.showModal()
    return () => {
      d.close()
      if (back instanceof HTMLElement) back.focus()
    }
  }, [])
  return (
    <dialog
      ref={dialog} className={kind} data-testid={testid} aria-labelledby={`${testid}-title`}
      onCancel={(e) => {
        e.preventDefault()
        if (e.target === e.currentTarget) onClose()
      }}
      onPointerDown={(e) => e.target === e.currentTarget && onClose()}
    >
      <div className="inside">
        <header>
          <h2 id={`${testid}-title`}>{title}</h2>
          <button type="button" className="icon" aria-label={t('close')} onClick={onClose}><CloseIcon size="20px" /></button>
        </header>
        {children}
      </div>
    </dialog>
  )
}
