import { Tag } from 'tdesign-react'
import { admin } from '../api'
import { useAsked } from '../asking'
import { askFigures, useFigures } from '../figures'
import { figure, fullTime, moment, span } from '../format'
import { useWords } from '../language'
import type { Word } from '../words'
import { Chart } from '../parts/chart'
import { Grid } from '../parts/grid'
import { Failure, Waiting } from '../parts/state'

export function Overview({ dark }: { dark: boolean }) {
  const { t, lang } = useWords()
  const { samples, failure } = useFigures()
  const newest = samples.at(-1)
  return (
    <>
      <header className="heading">
        <h1>{t('page.overview')}</h1>
        {newest && <p className="soft">{t('overview.uptime', { version: newest.stats.version || '–', span: span(newest.stats.uptime * 1000, lang) })}</p>}
      </header>
      <Failure of={failure} again={askFigures} />
      {!newest && !failure && <Waiting />}
      {newest && (
        <>
          <div className="figures">
            <Card name="sockets" value={figure(newest.stats.sockets, lang)} />
            <Card name="users" value={figure(newest.stats.users, lang)} />
            <Card name="rooms" value={figure(newest.stats.rooms, lang)} />
            <Card name="published" value={figure(newest.publishedRate ?? 0, lang)} unit={t('perSecond')} note={t('overview.total', { n: figure(newest.stats.published, lang) })} />
            <Card name="delivered" value={figure(newest.deliveredRate ?? 0, lang)} unit={t('perSecond')} note={t('overview.total', { n: figure(newest.stats.delivered, lang) })} />
            <Card
              name="waiting" value={figure(newest.stats.outbox.waiting, lang)}
              note={newest.stats.outbox.oldest ? t('overview.oldest', { span: span(newest.at - newest.stats.outbox.oldest, lang) }) : t('overview.outbox')}
            />
            <Card name="dead" value={figure(newest.stats.outbox.dead, lang)} alarm={newest.stats.outbox.dead > 0} note={newest.stats.outbox.dead > 0 ? t('overview.deadBad') : t('overview.deadGood')} />
            <Card
              name="recovered" value={figure(newest.stats.recovered, lang)}
              note={t('overview.notRecovered', { n: figure(newest.stats.notRecovered, lang), slow: figure(newest.stats.dropped, lang) })}
            />
          </div>
          <div className="charts">
            <Chart
              title={t('overview.connections')} dark={dark} at={samples.map((s) => s.at)}
              lines={[
                { name: t('stat.sockets'), color: '--leaf', values: samples.map((s) => s.stats.sockets) },
                { name: t('stat.users'), color: '--sky', values: samples.map((s) => s.stats.users) },
              ]}
            />
            <Chart
              title={t('overview.messages')} dark={dark} at={samples.map((s) => s.at)}
              lines={[
                { name: t('stat.delivered'), color: '--leaf', values: samples.map((s) => s.deliveredRate) },
                { name: t('stat.published'), color: '--amber', values: samples.map((s) => s.publishedRate) },
              ]}
            />
          </div>
        </>
      )}
      <Nodes />
    </>
  )
}

function Card({ name, value, unit, note, alarm }: { name: string; value: string; unit?: string; note?: string; alarm?: boolean }) {
  const { t } = useWords()
  return (
    <section className={alarm ? 'panel figure alarm' : 'panel figure'}>
      <h2>{t(`stat.${name}` as Word)}</h2>
      <p><b data-testid={`stat-${name}`}>{value}</b>{unit && <small>{unit}</small>}</p>
      <small>{note ?? t(`stat.${name}.note` as Word)}</small>
    </section>
  )
}

function Nodes() {
  const { t, lang } = useWords()
  const { data, failure, loading, again } = useAsked('nodes', admin.nodes, 5000)
  const now = Date.now()
  return (
    <section className="panel">
      <h2 className="title">{t('nodes')} {data && <small>{data.length}</small>}</h2>
      <Failure of={failure} again={again} />
      {loading && !data && <Waiting />}
      {data && data.length > 0 && (
        <Grid
          label={t('nodes')} rows={data} keyOf={(n) => n.id}
          columns={[
            { name: t('nodes.id'), main: true, cell: (n) => <><code className="cut" title={n.id}>{n.id}</code> {n.self && <Tag size="small" theme="success" variant="light">{t('nodes.self')}</Tag>}</> },
            { name: t('nodes.addr'), cell: (n) => n.addr || '–' },
            { name: t('nodes.version'), cell: (n) => n.version || '–' },
            { name: t('nodes.up'), cell: (n) => <span title={fullTime(n.startedAt, lang)}>{span(now - n.startedAt, lang)}</span> },
            { name: t('nodes.seen'), cell: (n) => (now - n.seenAt < 15_000 ? t('nodes.now') : <span className="bad">{moment(n.seenAt)}</span>) },
            { name: t('stat.sockets'), right: true, cell: (n) => figure(n.sockets, lang) },
            { name: t('stat.users'), right: true, cell: (n) => figure(n.users, lang) },
            { name: t('stat.rooms'), right: true, cell: (n) => figure(n.rooms, lang) },
            { name: t('nodes.rate'), right: true, cell: (n) => figure(n.rate, lang) },
          ]}
        />
      )}
    </section>
  )
}
