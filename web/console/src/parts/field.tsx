import { useCallback, useEffect, useRef, type ReactNode } from 'react'

/**
 * A labelled input. TDesign's inputs take no attributes of their own, so the inner element gets them here:
 * its test id, its keyboard, and whether what it holds is wrong.
 */
export function Field({ label, hint, wrong, testid, keyboard, children, group }: {
  label: ReactNode
  hint?: ReactNode
  wrong?: string
  testid?: string
  keyboard?: 'decimal' | 'text'
  /** several inputs under one heading: no label element */
  group?: boolean
  children: ReactNode
}) {
  const reach = useCallback(
    (box: HTMLElement | null) => {
      const inner = box?.querySelector('input, textarea')
      if (!inner) return
      if (testid) inner.setAttribute('data-testid', testid)
      if (keyboard) inner.setAttribute('inputmode', keyboard)
      inner.setAttribute('spellcheck', 'false')
      inner.setAttribute('autocapitalize', 'off')
      inner.setAttribute('aria-invalid', String(Boolean(wrong)))
    },
    [testid, keyboard, wrong],
  )
  const Box = group ? 'div' : 'label'
  return (
    <Box className={wrong ? 'field wrong' : 'field'} ref={reach} role={group ? 'group' : undefined} aria-label={group && typeof label === 'string' ? label : undefined}>
      <span className="name">{label}</span>
      {children}
      {wrong ? <small role="alert">{wrong}</small> : hint && <small>{hint}</small>}
    </Box>
  )
}

/** An input whose place says what it is for; its name is for those who do not see it. */
export function Named({ name, children }: { name: string; children: ReactNode }) {
  const box = useRef<HTMLDivElement>(null)
  useEffect(() => box.current!.querySelector('input')!.setAttribute('aria-label', name))
  return <div ref={box}>{children}</div>
}
