import type { ReactNode } from 'react'

export interface Column<T> {
  name: string
  cell: (row: T) => ReactNode
  /** numbers stand at the right */
  right?: boolean
  /** the first thing of the card that a row becomes on a phone */
  main?: boolean
}

/** A table; on a phone every row becomes a card. A row that leads somewhere is opened by the button in its main cell. */
export function Grid<T>({ columns, rows, keyOf, label, onOpen, testid }: {
  columns: Column<T>[]
  rows: T[]
  keyOf: (row: T) => string
  label: string
  onOpen?: (row: T) => void
  testid?: (row: T) => string
}) {
  return (
    <table className={onOpen ? 'grid opens' : 'grid'} aria-label={label}>
      <thead>
        <tr>{columns.map((c) => <th key={c.name} scope="col" className={c.right ? 'right' : undefined}>{c.name}</th>)}</tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)} data-testid={testid?.(row)} onClick={onOpen && ((e) => (e.target as Element).closest('a, button') || onOpen(row))}>
            {columns.map((c) => (
              <td key={c.name} data-name={c.name} className={[c.right && 'right', c.main && 'main'].filter(Boolean).join(' ') || undefined}>
                {c.main && onOpen ? <button type="button" className="open" onClick={() => onOpen(row)}>{c.cell(row)}</button> : <div>{c.cell(row)}</div>}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  )
}
