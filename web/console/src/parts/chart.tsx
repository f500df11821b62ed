import { useEffect, useRef } from 'react'
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { useWords } from '../language'
import { figure } from '../format'

export interface Line {
  name: string
  /** a custom property of the style sheet, "--leaf" */
  color: string
  values: (number | null)[]
  /** what stands beside the name; default: the newest value */
  now?: string
}

const height = 190

/** Lines over the last minutes. What they say stands beside their names as text, for those who cannot see them. */
export function Chart({ title, at, lines, dark }: { title: string; at: number[]; lines: Line[]; dark: boolean }) {
  const { lang } = useWords()
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>(null)
  const shape = lines.map((l) => l.name + l.color).join()
  useEffect(() => {
    const into = box.current!
    const style = getComputedStyle(into)
    const color = (name: string) => style.getPropertyValue(name).trim()
    const axis = { stroke: color('--soft'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' }
    const drawn = new uPlot(
      {
        width: into.clientWidth, height, ms: 1,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
        scales: { x: { time: true, range: (_, min, max) => [Math.min(min, max - 30_000), max] }, y: { range: (_, __, max) => [0, Math.max(4, max * 1.15)] } },
        axes: [
          { ...axis, size: 30, values: (_, ticks) => ticks.map((t) => new Date(t).toTimeString().slice(0, 8)), space: 90 },
          { ...axis, size: 46, values: (_, ticks) => ticks.map((t) => figure(t, lang)), incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7] },
        ],
        series: [
          {},
          ...lines.map((l, i) => ({
            label: l.name, stroke: color(l.color), width: 2, spanGaps: false, points: { show: false },
            fill: i === 0 ? color(l.color) + '22' : undefined,
            paths: uPlot.paths.spline?.(),
          })),
        ],
      },
      [[], ...lines.map(() => [])] as uPlot.AlignedData,
      into,
    )
    plot.current = drawn
    const resized = new ResizeObserver(() => drawn.setSize({ width: into.clientWidth, height }))
    resized.observe(into)
    return () => {
      resized.disconnect()
      drawn.destroy()
      plot.current = null
    }
    // The values come by setData; only another shape, language or ground needs another plot.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape, lang, dark])
  useEffect(() => {
    plot.current?.setData([at, ...lines.map((l) => l.values)] as uPlot.AlignedData)
  })
  return (
    <figure className="panel chart">
      <figcaption>
        <h3>{title}</h3>
        <ul>
          {lines.map((l) => {
            const newest = l.values.at(-1)
            return (
              <li key={l.name}>
                <i style={{ background: `var(${l.color})` }} />
                {l.name} <b>{l.now ?? (newest == null ? '–' : figure(newest, lang))}</b>
              </li>
            )
          })}
        </ul>
      </figcaption>
      <div ref={box} className="plot" aria-hidden="true" />
    </figure>
  )
}
